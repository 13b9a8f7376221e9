//! The last lines of a log that may be huge: read backwards in pieces, never whole.
//!
//! Called by: `log_view`. Must never: look back further than [`MAX_BACK`] or keep more than the lines asked for.

use dx_events::mask::Secrets;
use dx_protocol::Grammar;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::transcript::Transcript;

/// First look back, and the size of a piece.
const PIECE: u64 = 64 * 1024;
/// Nobody asks for the last lines and means more than this.
pub(crate) const MAX_BACK: u64 = 64 << 20;

/// The last lines and what is needed to go on after them.
pub(crate) struct LastLines {
    /// Oldest first, without line feeds.
    pub(crate) lines: VecDeque<Vec<u8>>,
    /// Holds the unfinished line, if there is one.
    pub(crate) transcript: Transcript,
    /// Where the next byte is.
    pub(crate) offset: u64,
}

/// The last `count` transcript lines of the log as it is now. When it is `complete`, what has no line feed at its end is
/// a line too; otherwise it waits in the transcript.
pub(crate) fn transcript(
    file: &File,
    (grammar, secrets): (Grammar, &Arc<Secrets>),
    count: usize,
    complete: bool,
) -> io::Result<LastLines> {
    let len = file.metadata()?.len();
    let mut back = PIECE;
    loop {
        let start = len.saturating_sub(back);
        let found = window(file, (grammar, secrets), count, complete, start..len)?;
        if found.lines.len() >= count || start == 0 || back >= MAX_BACK {
            return Ok(found);
        }
        back *= 4;
    }
}

fn window(
    file: &File,
    (grammar, secrets): (Grammar, &Arc<Secrets>),
    count: usize,
    complete: bool,
    range: Range<u64>,
) -> io::Result<LastLines> {
    let mut transcript = Transcript::new(grammar, secrets);
    let mut lines = VecDeque::new();
    let mut keep = |line: &[u8]| {
        if lines.len() == count {
            lines.pop_front();
        }
        if count > 0 {
            lines.push_back(line.to_vec());
        }
    };
    let Range { start, end: len } = range;
    let mut offset = start;
    let mut buffer = vec![0; PIECE as usize];
    // The first line of a window is cut, unless it is the file's first.
    let mut skipping = start > 0;
    while offset < len {
        let want = (len - offset).min(PIECE) as usize;
        let got = file.read_at(&mut buffer[..want], offset)?;
        if got == 0 {
            break;
        }
        offset += got as u64;
        let mut bytes = &buffer[..got];
        if skipping {
            let Some(end) = bytes.iter().position(|b| *b == b'\n') else { continue };
            bytes = &bytes[end + 1..];
            skipping = false;
        }
        transcript.feed(bytes, &mut keep);
    }
    if complete {
        transcript.finish(&mut keep);
    }
    Ok(LastLines { lines, transcript, offset })
}

/// Where the last `count` lines of the file begin.
pub(crate) fn start_of(file: &File, count: usize) -> io::Result<u64> {
    let len = file.metadata()?.len();
    let mut buffer = vec![0; PIECE as usize];
    let mut seen = 0;
    let mut end = len;
    let floor = len.saturating_sub(MAX_BACK);
    if count == 0 {
        return Ok(len);
    }
    while end > floor {
        let start = end.saturating_sub(PIECE).max(floor);
        let piece = &mut buffer[..(end - start) as usize];
        file.read_exact_at(piece, start)?;
        for (index, _) in piece.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            let after = start + index as u64 + 1;
            // The line feed at the very end closes the last line and begins none.
            if after < len {
                seen += 1;
            }
            if seen == count {
                return Ok(after);
            }
        }
        end = start;
    }
    Ok(floor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn texts(content: &[u8], count: usize) -> Vec<String> {
        let found = transcript(&file(content), (Grammar::Text, &Arc::default()), count, true).unwrap();
        found.lines.into_iter().map(|line| String::from_utf8(line).unwrap()).collect()
    }

    #[test]
    fn the_last_lines_of_small_logs() {
        assert_eq!(texts(b"", 3), Vec::<String>::new());
        assert_eq!(texts(b"a\nb\nc\n", 2), ["b", "c"]);
        assert_eq!(texts(b"a\nb\nc", 2), ["b", "c"]);
        assert_eq!(texts(b"a\nb\nc\n", 9), ["a", "b", "c"]);
        assert_eq!(texts(b"a\n", 0), Vec::<String>::new());
    }

    #[test]
    fn the_last_lines_of_logs_larger_than_a_piece() {
        let many: Vec<String> = (0..60_000).map(|n| format!("line {n}")).collect();
        let many = many.join("\n") + "\n";
        assert_eq!(texts(many.as_bytes(), 2), ["line 59998", "line 59999"]);
        let all = texts(many.as_bytes(), 50_000);
        assert_eq!((all.len(), all[0].as_str()), (50_000, "line 10000"));
        let start = start_of(&file(many.as_bytes()), 50_000).unwrap();
        assert!(many[start as usize..].starts_with("line 10000\n"));
    }

    #[test]
    fn starts_of_last_lines() {
        let start = |content: &[u8], count| start_of(&file(content), count).unwrap();
        assert_eq!(start(b"a\nb\nc\n", 1), 4);
        assert_eq!(start(b"a\nb\nc", 2), 2);
        assert_eq!(start(b"a\nb\n", 0), 4);
        assert_eq!(start(b"a\nb\n", 5), 0);
        assert_eq!(start(b"", 5), 0);
    }
}
