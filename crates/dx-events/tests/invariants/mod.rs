//! What must hold for every grammar, whatever the bytes and the pieces in which they come.
//!
//! Called by the property tests and by the fuzz loop. Fails by panicking. Must never name a grammar: a new one is in
//! `Grammar::all`, and its recorded runs are below `fixtures/<its word>`.
#![allow(dead_code, reason = "each test binary uses its part")]

use dx_events::mask::Secrets;
use dx_events::{Grammar, MESSAGE_MAX, Parser, Summary, render, stderr_event};
use dx_protocol::AgentEvent;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

/// A rendered event: its texts, and what stands around them.
const RENDERED_MAX: usize = MESSAGE_MAX + 4200;
/// A value that the mask is to take out of the generated streams.
pub(crate) const SECRET: &str = "hunter/2 \"secret\"";

pub(crate) type Seen = (Vec<(u64, AgentEvent)>, u64, u64);

pub(crate) fn parse<'a>(grammar: Grammar, chunks: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    let mut parser = Parser::new(grammar);
    let mut events = Vec::new();
    let mut sink = |offset, event| events.push((offset, event));
    chunks.into_iter().for_each(|chunk| parser.feed(chunk, &mut sink));
    parser.finish(&mut sink);
    (events, parser.offset(), parser.unparsed())
}

/// The bytes cut at these places.
pub(crate) fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| (*cut).min(bytes.len())).collect();
    ends.extend([0, bytes.len()]);
    ends.sort_unstable();
    ends.windows(2).map(|w| &bytes[w[0]..w[1]]).collect()
}

/// Files of a grammar's recorded runs.
pub(crate) fn recorded_files(grammar: Grammar) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(grammar.as_str());
    let below = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    };
    let mut files: Vec<PathBuf> = below(&root).iter().flat_map(|version| below(version)).collect();
    files.sort();
    assert!(grammar == Grammar::Text || files.len() > 20, "{grammar:?} has {} recorded files", files.len());
    files
}

/// All lines of all recorded runs.
pub(crate) fn recorded_lines() -> Vec<Vec<u8>> {
    let lines = |path: PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    Grammar::all().flat_map(recorded_files).flat_map(lines).collect()
}

/// Parsers: no panic, the same events from any pieces, offsets in order, bounded strings that no terminal obeys.
pub(crate) fn parsers_hold(bytes: &[u8], cuts: &[usize]) {
    for grammar in Grammar::all() {
        let whole = parse(grammar, [bytes]);
        assert_eq!(parse(grammar, pieces(bytes, cuts)), whole, "{grammar:?}");
        assert_eq!(whole.1, bytes.len() as u64, "{grammar:?}");
        let mut summary = Summary::new(grammar);
        let mut before = 0;
        for (offset, event) in &whole.0 {
            assert!((before..=bytes.len() as u64).contains(offset), "{grammar:?}: {offset} after {before}");
            before = *offset;
            summary.apply(event);
            if let Some(text) = render(event) {
                assert!(text.len() <= RENDERED_MAX && !text.contains('\u{1b}'), "{grammar:?}: {text}");
            }
        }
        let _verdict = summary.verdict();
        let json = serde_json::to_string(&summary).unwrap();
        assert!(json.len() < 256 << 10, "{grammar:?}: a summary of {} bytes", json.len());
        let _event = stderr_event(grammar, &String::from_utf8_lossy(bytes));
    }
}

/// The mask: the same from any pieces, the same length, nothing new but stars, the secret gone.
pub(crate) fn mask_holds(bytes: &[u8], cuts: &[usize]) {
    static SECRETS: LazyLock<Arc<Secrets>> = LazyLock::new(|| Arc::new(Secrets::new([SECRET])));
    let whole = SECRETS.mask_bytes(bytes).unwrap_or_else(|| bytes.to_vec());
    let (mut out, mut file) = (Vec::new(), bytes.to_vec());
    let mut ranges = Vec::new();
    let mut stream = SECRETS.stream();
    for piece in pieces(bytes, cuts) {
        stream.feed(piece, &mut |range, _| ranges.push(range), &mut |bytes| out.extend_from_slice(bytes));
    }
    stream.finish(&mut |range, _| ranges.push(range), &mut |bytes| out.extend_from_slice(bytes));
    for range in ranges {
        file[range.start as usize..range.end as usize].fill(b'*');
    }
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!((shown(&out), shown(&file)), (shown(&whole), shown(&whole)));
    assert!(
        whole.len() == bytes.len() && bytes.iter().zip(&whole).all(|(old, new)| old == new || *new == b'*')
    );
    assert!(!shown(&whole).contains(SECRET));
}
