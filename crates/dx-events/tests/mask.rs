//! Masking: what must go and what must stay, whatever the pieces in which it comes.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use base64_of::base64;
use dx_events::mask::{SHAPES, Secrets};
use proptest::prelude::*;

/// Made of the alphabet of tokens, with digits early on.
fn body(len: usize) -> String {
    "a1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuVwXyZ".chars().cycle().take(len).collect()
}

fn upper(len: usize) -> String {
    body(len).to_uppercase()
}

fn jwt() -> String {
    format!("eyJ{}.eyJ{}.{}", body(30), body(40), body(43))
}

/// One token of each shape, with what must be gone of it.
fn tokens() -> Vec<(String, String)> {
    let whole = |token: String| (token.clone(), token);
    let mut tokens: Vec<(String, String)> = Vec::new();
    for shape in SHAPES {
        tokens.push(match shape.prefix {
            "eyJ" => whole(jwt()),
            "AKIA" | "ASIA" => whole(format!("{}{}", shape.prefix, upper(16))),
            "AIza" => whole(format!("AIza{}", body(35))),
            "://" => (format!("https://user:{}@example.invalid/x", body(9)), body(9)),
            "-----BEGIN " => {
                let lines = format!("{}\n{}\n{}", body(64), body(64), body(20));
                let key = format!(
                    "-----BEGIN OPENSSH PRIVATE KEY-----\n{lines}\n-----END OPENSSH PRIVATE KEY-----"
                );
                (key, body(20))
            }
            prefix if prefix.ends_with(' ') => (format!("{prefix}{}", body(24)), body(24)),
            prefix => whole(format!("{prefix}{}", body(60))),
        });
    }
    tokens.push(whole(format!("sk-ant-api03-{}-{}AA", body(60), body(25))));
    tokens.push(whole(format!("sk-proj-{}", body(48))));
    tokens.push(whole(format!("sk-or-v1-{}", "0123456789abcdef".repeat(4))));
    tokens
}

/// All at once.
fn mask(secrets: &Secrets, text: &[u8]) -> Vec<u8> {
    secrets.mask_bytes(text).unwrap_or_else(|| text.to_vec())
}

/// In pieces, and what is overwritten in a copy by offsets.
fn in_pieces(secrets: &Secrets, text: &[u8], cuts: &[prop::sample::Index]) -> (Vec<u8>, Vec<u8>) {
    let mut stream = Arc::new(secrets.clone()).stream();
    let mut ends: Vec<usize> = cuts.iter().map(|c| c.index(text.len() + 1)).collect();
    ends.extend([0, text.len()]);
    ends.sort_unstable();
    let (mut out, mut file) = (Vec::new(), text.to_vec());
    let mut ranges = Vec::new();
    for piece in ends.windows(2) {
        stream.feed(&text[piece[0]..piece[1]], &mut |r, _| ranges.push(r), &mut |b| out.extend_from_slice(b));
        // Asking for what stands so far changes nothing.
        stream.standing(&mut |_, _| {});
        assert_eq!(stream.offset(), piece[1] as u64);
    }
    stream.finish(&mut |r, _| ranges.push(r), &mut |b| out.extend_from_slice(b));
    assert_eq!(stream.pending(), 0);
    for range in ranges {
        file[range.start as usize..range.end as usize].fill(b'*');
    }
    (out, file)
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_shape_goes_wherever_it_stands() {
    let none = Secrets::default();
    for (token, gone) in tokens() {
        let json = serde_json::to_string(&token).unwrap();
        let inner = &json[1..json.len() - 1];
        let gone = serde_json::to_string(&gone).unwrap();
        let gone = gone.trim_matches('"');
        for (before, after) in [
            ("", ""),
            ("TOKEN=", "\n"),
            ("{\"text\":\"", "\"}"),
            ("line\\n", "\\nmore"),
            ("\\u001b[32m", "\\u001b[0m"),
            ("\u{1b}[1;31m", "\u{1b}[0m"),
            ("key is '", "',"),
            ("a=b%20", "&c=d"),
            ("é", "é"),
        ] {
            let text = format!("{before}{inner}{after}");
            let masked = shown(&mask(&none, text.as_bytes()));
            assert_eq!(masked.len(), text.len());
            assert!(!masked.contains(gone), "{text}\n{masked}");
            assert!(masked.starts_with(before) && masked.ends_with(after), "{text}\n{masked}");
        }
    }
}

#[test]
fn the_guide_lists_every_shape() {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/sandbox-and-secrets.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    for shape in SHAPES {
        let row = guide.lines().find(|line| line.starts_with(&format!("| {} |", shape.name)));
        assert!(row.is_some_and(|row| row.contains(&format!("`{}`", shape.prefix))), "{shape:?}");
    }
}

#[test]
fn what_is_no_secret_stays() {
    let image =
        base64(&(0..60_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>());
    let texts = [
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned(),
        "commit 42af9dd0c1d4b0e4f6a2b19d7f1d3634e9b1a3c7".to_owned(),
        "550e8400-e29b-41d4-a716-446655440000 01a1fd8f-28d8-7206-9067-4d2c9b49dc40".to_owned(),
        "sha512-RBd2Wc0aVSB1pDHK9bGqaXxVdSdy0gkPkCdz2vIB9jFg3W0yqJkQ2CqYk0h1Tn6uQ==".to_owned(),
        format!("data:image/png;base64,{image}"),
        format!("{{\"image\":\"{image}\"}}"),
        "/home/user/src/task-0123456789abcdefghijkl/disk-image-2024-01-01-final.tar.gz".to_owned(),
        "risk-assessment-2024-report-final mask-sk-0 sk-short1 sk-folding-cube-container-wrapper".to_owned(),
        "AKIAS AKIA1234 XAKIAIOSFODNN7EXAMPLE AKIAIOSFODNN7EXAMPLEX".to_owned(),
        "AIzaShort eyJhbGciOiJIUzI1NiJ9 eyJ.a.b eyJhbGciOiJIUzI1NiJ9.short".to_owned(),
        "Bearer token authentication is used; the Bearer of bad news; bearer internationalisation".to_owned(),
        "https://example.invalid:8080/@scope/name?x=1 ssh://git@host:22/x postgres://host:5432/db".to_owned(),
        "git@github.com:owner/name.git std::collections::HashMap<String, u8>".to_owned(),
        "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A\n-----END PUBLIC KEY-----".to_owned(),
        "grep '-----BEGIN RSA PRIVATE KEY-----' found nothing in the whole repository".to_owned(),
        "ghp_ github_pat_short glpat-x xoxb-nothing-here npm_config_registry hf_hub_download".to_owned(),
        "ses_7f3a9c1e2b4d6f8a0c2e4b6d msg_01JABCDEF0123456789 prt_0123456789abcdef toolu_01A09q90qw90lq917835lq9".to_owned(),
        "~/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/serde_json-1.0.154/src/lib.rs".to_owned(),
        "/*****************************************/ ******** **bold**".to_owned(),
    ];
    let secrets = Secrets::new(["8080", "production", "true", "hosts", "12345", "  ", ""]);
    for text in texts {
        assert_eq!(shown(&mask(&secrets, text.as_bytes())), text);
    }
    assert!(secrets.is_empty());
}

#[test]
fn known_values_go_in_every_form_and_their_parts_too() {
    let key =
        format!("-----BEGIN PRIVATE KEY-----\n{}\n{}\n-----END PRIVATE KEY-----\n", body(64), upper(30));
    let config =
        r#"{"provider":{"mock":{"options":{"apiKey":"hush-hush-7","baseURL":"http://127.0.0.1:1/v1"}}}}"#;
    let secrets = Secrets::new([
        "p\"a/ss\\w",
        "hunter-2-secret",
        &key,
        config,
        "http://me:pr0xy-pass@proxy.invalid:3128",
        "überraschung9",
    ]);
    let basic = base64(b"user:hunter-2-secret");
    for (text, gone) in [
        ("x p\"a/ss\\w y", "p\"a/ss\\w"),
        (r#"{"a":"p\"a\/ss\\w"}"#, r"ss\\w"),
        (r#"{"a":"{\"b\":\"p\\\"a/ss\\\\w\"}"}"#, "/ss"),
        (r#"{"a":"p\u0022a\u002Fss\u005cw"}"#, "u002Fss"),
        ("https://x.invalid/?p=p%22a%2Fss%5Cw", "%2Fss"),
        ("the key is hush-hush-7.", "hush-hush-7"),
        ("via pr0xy-pass", "pr0xy-pass"),
        (r"caf\u00e9 \u00fcberraschung9", "berraschung9"),
        (&format!("cat key | head -2: {}", body(64)), &body(64)),
        (&format!("Authorization: Basic {basic}"), &basic[8..24]),
    ] {
        let masked = shown(&mask(&secrets, text.as_bytes()));
        assert!(!masked.contains(gone) && masked.len() == text.len(), "{text}\n{masked}");
        let is_json = |text: &str| serde_json::from_str::<serde_json::Value>(text).is_ok();
        assert_eq!(is_json(&masked), is_json(text), "{text}\n{masked}");
    }
    let kept = r#"{"baseURL":"http://127.0.0.1:1/v1","apiKey":"other"}"#;
    assert_eq!(shown(&mask(&secrets, kept.as_bytes())), kept);
    assert!(!format!("{secrets:?}").contains("hunter"));
}

#[test]
fn what_stands_at_the_end_is_told_before_it_is_decided() {
    let secrets = Arc::new(Secrets::new(["abcd1234", "abcd1234:$rest"]));
    let mut stream = secrets.stream();
    let mut seen = Vec::new();
    stream.feed(b"say abcd1234", &mut |_, _| panic!("undecided"), &mut |bytes| seen.extend_from_slice(bytes));
    assert_eq!((shown(&seen), stream.pending()), ("say ".to_owned(), 8));
    let mut standing = Vec::new();
    stream.standing(&mut |range, _| standing.push((range.start, range.end)));
    assert_eq!(standing, [(4, 12)]);
    let mut found = Vec::new();
    stream.feed(b":$rest.", &mut |range, _| found.push((range.start, range.end)), &mut |bytes| {
        seen.extend_from_slice(bytes);
    });
    assert_eq!((found, shown(&seen)), (vec![(4, 18)], "say **************.".to_owned()));
}

#[test]
fn a_token_that_comes_byte_by_byte_is_gone_at_every_moment() {
    let secrets = Arc::new(Secrets::default());
    let mut stream = secrets.stream();
    let token = format!("sk-ant-api03-{}", body(80));
    let mut file = Vec::new();
    for byte in token.bytes() {
        file.push(byte);
        let mut ranges = Vec::new();
        stream.feed(&[byte], &mut |r, _| ranges.push(r), &mut |_| {});
        stream.standing(&mut |r, _| ranges.push(r));
        for range in ranges {
            file[range.start as usize..range.end as usize].fill(b'*');
        }
        assert!(file.len() < 20 || file.iter().all(|b| *b == b'*'), "{}", shown(&file));
    }
}

/// Pieces of text that are, hold, or nearly are secrets.
fn parts() -> impl Strategy<Value = Vec<u8>> {
    let tokens: Vec<Vec<u8>> = tokens().into_iter().map(|(token, _)| token.into_bytes()).collect();
    let token = prop::sample::select(tokens);
    let cut = (token.clone(), any::<prop::sample::Index>()).prop_map(|(mut token, at)| {
        token.truncate(at.index(token.len() + 1));
        token
    });
    let known = prop::sample::select(vec![
        &b"hunter-2-secret"[..],
        b"hunter-2",
        b"p\\\"a/ss",
        b"p\"a/ss",
        b"ab1ab1ab2",
    ]);
    let glue =
        prop::sample::select(vec![" ", "\n", "\\n", "\"", "=", "\\", "%", "a", "*", "\\u00", ": ", "://u:"]);
    prop_oneof![
        2 => token,
        2 => cut,
        3 => known.prop_map(<[u8]>::to_vec),
        4 => glue.prop_map(|glue| glue.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ]
}

proptest! {
    #[test]
    fn pieces_do_not_matter_and_lengths_stay(
        parts in proptest::collection::vec(parts(), 0..12),
        cuts: [prop::sample::Index; 8],
    ) {
        let secrets = Secrets::new(["hunter-2-secret", "hunter-2", "p\"a/ss", "ab1ab1ab2"]);
        let text = parts.concat();
        let whole = mask(&secrets, &text);
        prop_assert_eq!(whole.len(), text.len());
        let (out, file) = in_pieces(&secrets, &text, &cuts);
        prop_assert_eq!(shown(&out), shown(&whole));
        prop_assert_eq!(shown(&file), shown(&whole));
        // Only stars are new, and a second time finds nothing more.
        prop_assert!(text.iter().zip(&whole).all(|(old, new)| old == new || *new == b'*'));
        for value in ["hunter-2", "p\"a/ss", "ab1ab1ab2"] {
            prop_assert!(!shown(&whole).contains(value));
        }
    }

    #[test]
    fn masking_twice_is_masking_once(parts in proptest::collection::vec(parts(), 0..8)) {
        let secrets = Secrets::new(["hunter-2-secret", "hunter-2", "p\"a/ss", "ab1ab1ab2"]);
        let once = mask(&secrets, &parts.join(&b". "[..]));
        prop_assert_eq!(shown(&mask(&secrets, &once)), shown(&once));
    }

    #[test]
    fn any_value_is_found_in_its_json(value in "\\PC{3,30}[\"\\\\/\n\u{1F600}é%$]{0,6}[a-z0-9]{6}", depth in 0..3) {
        let secrets = Secrets::new([&value]);
        let wanted = value.trim();
        let mut text = value.clone();
        for _ in 0..depth {
            text = serde_json::to_string(&text).unwrap();
        }
        let masked = shown(&mask(&secrets, text.as_bytes()));
        // The last characters are plain in every form.
        prop_assert!(!masked.contains(&wanted[wanted.len() - 6..]), "{} in {}", wanted, masked);
        if depth > 0 {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&masked).is_ok(), "{}", masked);
        }
    }
}

mod base64_of {
    pub(crate) fn base64(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let word =
                chunk.iter().enumerate().fold(0_u32, |word, (n, b)| word | u32::from(*b) << (16 - 8 * n));
            for n in 0..4 {
                let index = (word >> (18 - 6 * n) & 63) as usize;
                text.push(if n <= chunk.len() { char::from(ALPHABET[index]) } else { '=' });
            }
        }
        text
    }
}
