//! Cuts a stream of bytes into lines with their offsets, whatever the chunks look like, in bounded memory.
//!
//! Called by [`crate::Parser`], and by readers that want the raw lines. Never keeps more than its limit of one line.

use crate::squeeze::Squeezer;

/// Longest line that [`LineSplitter::new`] hands out whole.
pub const MAX_LINE: usize = 256 * 1024;
/// A buffer that had to grow past this is given back after its line.
const KEEP_CAPACITY: usize = 8 * 1024;

/// One line of the stream, without its line feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// A whole line (from [`LineSplitter::finish`]: the unterminated tail).
    Whole { offset: u64, bytes: &'a [u8] },
    /// A line over the limit, handed out at its end: its true length and as much of its start as was kept.
    Truncated { offset: u64, len: u64, head: &'a [u8] },
}

/// Turns chunks into lines.
#[derive(Debug, Clone)]
pub struct LineSplitter {
    limit: usize,
    squeezer: Option<Squeezer>,
    buffer: Vec<u8>,
    /// True length of the line so far, skipped bytes included.
    len: u64,
    overflow: bool,
    offset: u64,
}

impl Default for LineSplitter {
    fn default() -> Self {
        Self::new()
    }
}

impl LineSplitter {
    /// Lines up to [`MAX_LINE`].
    pub fn new() -> Self {
        Self::with_limit(MAX_LINE)
    }

    /// Lines up to `limit` bytes.
    pub fn with_limit(limit: usize) -> Self {
        Self { limit, squeezer: None, buffer: Vec::new(), len: 0, overflow: false, offset: 0 }
    }

    /// For lines of JSON: only about the first `string_max` bytes of each string are kept, and count for the limit.
    pub fn squeezing(limit: usize, string_max: usize) -> Self {
        Self { squeezer: Some(Squeezer::new(string_max)), ..Self::with_limit(limit) }
    }

    /// Offset of the next byte to be fed.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes that wait for their line feed.
    pub fn pending(&self) -> u64 {
        self.len
    }

    /// Forgets the unfinished line; the next byte fed is the one at `offset`.
    pub fn resync(&mut self, offset: u64) {
        self.clear();
        self.offset = offset;
    }

    /// Takes the bytes at the current offset and hands out the lines that they complete.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Line<'_>)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if self.len == 0 && self.squeezer.is_none() && line.len() <= self.limit {
                sink(Line::Whole { offset: self.offset, bytes: line });
                self.offset += line.len() as u64;
            } else {
                self.take(line);
                self.emit(sink);
            }
            self.offset += 1;
            rest = after;
        }
        self.take(rest);
    }

    /// Hands out the unterminated tail, if there is one.
    pub fn finish(&mut self, sink: &mut dyn FnMut(Line<'_>)) {
        if self.len > 0 {
            self.emit(sink);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.offset += bytes.len() as u64;
        self.len += bytes.len() as u64;
        if self.overflow {
            return;
        }
        if let Some(squeezer) = &mut self.squeezer {
            for byte in bytes {
                if squeezer.keep(*byte) {
                    if self.buffer.len() == self.limit {
                        self.overflow = true;
                        return;
                    }
                    self.buffer.push(*byte);
                }
            }
        } else {
            let room = self.limit - self.buffer.len();
            self.overflow = bytes.len() > room;
            self.buffer.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    fn emit(&mut self, sink: &mut dyn FnMut(Line<'_>)) {
        let offset = self.offset - self.len;
        if self.overflow {
            sink(Line::Truncated { offset, len: self.len, head: &self.buffer });
        } else {
            sink(Line::Whole { offset, bytes: &self.buffer });
        }
        self.clear();
    }

    fn clear(&mut self) {
        if self.buffer.capacity() > KEEP_CAPACITY {
            self.buffer = Vec::new();
        } else {
            self.buffer.clear();
        }
        if let Some(squeezer) = &mut self.squeezer {
            squeezer.reset();
        }
        self.len = 0;
        self.overflow = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(mut splitter: LineSplitter, chunks: &[&[u8]]) -> Vec<(u64, u64, bool, Vec<u8>)> {
        let mut lines = Vec::new();
        let mut sink = |line: Line<'_>| match line {
            Line::Whole { offset, bytes } => lines.push((offset, bytes.len() as u64, true, bytes.to_vec())),
            Line::Truncated { offset, len, head } => lines.push((offset, len, false, head.to_vec())),
        };
        for chunk in chunks {
            splitter.feed(chunk, &mut sink);
        }
        splitter.finish(&mut sink);
        let total: usize = chunks.iter().map(|c| c.len()).sum();
        assert_eq!(splitter.offset(), total as u64);
        assert_eq!(splitter.pending(), 0);
        lines
    }

    #[test]
    fn long_lines_come_once_with_their_length() {
        let lines = split(LineSplitter::with_limit(3), &[b"abc\nab", b"cdefgh", b"i\n\nxy"]);
        let expected = [(0, 3, true, "abc"), (4, 9, false, "abc"), (14, 0, true, ""), (15, 2, true, "xy")];
        let expected: Vec<_> = expected.iter().map(|l| (l.0, l.1, l.2, l.3.as_bytes().to_vec())).collect();
        assert_eq!(lines, expected);
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'"'), Just(b'\\'), any::<u8>()], 0..200),
            cuts in proptest::collection::vec(0_usize..200, 0..8),
            squeeze: bool,
        ) {
            let splitter =
                if squeeze { LineSplitter::squeezing(20, 5) } else { LineSplitter::with_limit(20) };
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(split(splitter.clone(), &chunks), split(splitter, &[&bytes]));
        }
    }
}
