//! Masking a stream of bytes that comes in any pieces.
//!
//! Called by the monitor as a log grows, by the settler over a whole one, and by [`super::Secrets`] for one text. What is
//! masked does not depend on the pieces. Keeps only the end that may be the beginning of a secret, at most a few KiB.

use super::shapes::Inside;
use super::{Look, MASK, Secrets};
use std::borrow::Borrow;
use std::ops::Range;

/// Bytes before a place that tell whether a word goes on there.
const BEFORE: usize = 12;

/// A stream on its way through the mask. The default secrets are shared; see [`Secrets::stream`].
#[derive(Debug, Clone)]
pub struct MaskStream<S> {
    secrets: S,
    /// Offset of the first byte that is not decided.
    offset: u64,
    /// What is not decided yet, as it was fed.
    tail: Vec<u8>,
    /// Of the tail, so many bytes go in any case.
    condemned: usize,
    inside: Option<Inside>,
    /// The last bytes before the tail, as they were fed.
    before: [u8; BEFORE],
    /// The last one was masked.
    masked: bool,
}

impl<S: Borrow<Secrets>> MaskStream<S> {
    pub(super) fn over(secrets: S) -> Self {
        Self {
            secrets,
            offset: 0,
            tail: Vec::new(),
            condemned: 0,
            inside: None,
            before: [0; BEFORE],
            masked: false,
        }
    }

    /// Offset of the next byte to be fed.
    pub fn offset(&self) -> u64 {
        self.offset + self.tail.len() as u64
    }

    /// Bytes that were fed and not handed out yet.
    pub fn pending(&self) -> u64 {
        self.tail.len() as u64
    }

    /// Forgets what is pending; the next byte fed is the one at `offset`.
    pub fn resync(&mut self, offset: u64)
    where
        S: Clone,
    {
        *self = Self { offset, ..Self::over(self.secrets.clone()) };
    }

    /// Takes the next bytes. `found` gets what must be overwritten, as offsets in the stream, and what was fed there; `out`
    /// gets the masked bytes that are decided, in order.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        found: &mut dyn FnMut(Range<u64>, &[u8]),
        out: &mut dyn FnMut(&[u8]),
    ) {
        self.go_on(bytes, false, found, out);
    }

    /// Decides what is pending, when nothing more will come.
    pub fn finish(&mut self, found: &mut dyn FnMut(Range<u64>, &[u8]), out: &mut dyn FnMut(&[u8])) {
        self.go_on(&[], true, found, out);
    }

    /// What of the pending bytes would have to be overwritten if nothing more came. Decides nothing.
    pub fn standing(&self, found: &mut dyn FnMut(Range<u64>, &[u8])) {
        let Self { secrets, inside, before, .. } = self;
        let (inside, before, offset) = (*inside, *before, self.offset);
        let mut copy = MaskStream::over(secrets.borrow());
        (copy.inside, copy.before, copy.condemned, copy.masked) =
            (inside, before, self.condemned, self.masked);
        copy.look(&self.tail, true, &mut |range| {
            let was = &self.tail[range.clone()];
            found(absolute(offset, &range), was);
        });
    }

    fn go_on(
        &mut self,
        bytes: &[u8],
        last: bool,
        found: &mut dyn FnMut(Range<u64>, &[u8]),
        out: &mut dyn FnMut(&[u8]),
    ) {
        let mut text = std::mem::take(&mut self.tail);
        text.extend_from_slice(bytes);
        let offset = self.offset;
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let decided = self.look(&text, last, &mut |range| {
            found(absolute(offset, &range), &text[range.clone()]);
            ranges.push(range);
        });
        self.remember(&text[..decided]);
        self.tail = text[decided..].to_vec();
        self.offset += decided as u64;
        for range in ranges {
            text[range].fill(MASK);
        }
        if decided > 0 {
            out(&text[..decided]);
        }
    }

    fn remember(&mut self, text: &[u8]) {
        let keep = text.len().min(BEFORE);
        self.before.copy_within(keep.., 0);
        self.before[BEFORE - keep..].copy_from_slice(&text[text.len() - keep..]);
    }

    /// Looks through `text`, which begins at the first undecided byte, hands out ranges of it, and returns how much of it
    /// is decided.
    pub(super) fn look(&mut self, text: &[u8], last: bool, found: &mut dyn FnMut(Range<usize>)) -> usize {
        let mut at = 0;
        let mut until = self.condemned;
        let mut begun: Option<usize> = None;
        while at < text.len() {
            if self.inside.is_none() && at >= until && begun.is_none() {
                let next = self.secrets.borrow().skip(text, at);
                self.masked &= next == at;
                at = next;
            }
            let Some(byte) = text.get(at) else { break };
            let (known, shape) = self.secrets.borrow().possible(text, at);
            let look = if known { self.secrets.borrow().known_at(text, at, last) } else { Look::No };
            match look {
                Look::Found(len) => until = until.max(at + len),
                Look::More => break,
                Look::No => {}
            }
            let mut goes = at < until;
            let taken = self.inside.as_mut().and_then(|inside| inside.take(*byte));
            if let Some(masked) = taken {
                goes |= masked;
            } else {
                self.inside = None;
                let look =
                    if shape { Secrets::shape_at(text, at, self.is_alone(text, at), last) } else { Look::No };
                match look {
                    Look::Found(inside) => {
                        let mut inside = inside;
                        goes |= inside.take(*byte).unwrap_or(false);
                        self.inside = Some(inside);
                    }
                    Look::More => break,
                    Look::No => {}
                }
            }
            match (begun, goes) {
                (None, true) => begun = Some(at),
                (Some(from), false) => {
                    found(from..at);
                    begun = None;
                }
                _ => {}
            }
            self.masked = goes;
            at += 1;
        }
        if let Some(from) = begun {
            found(from..at);
        }
        self.condemned = until.saturating_sub(at);
        at
    }

    /// Whether no word goes on at this place. An escape (`\n`, `\u001b`) or a colour ends one as a space does.
    fn is_alone(&self, text: &[u8], at: usize) -> bool {
        if self.masked {
            return true;
        }
        let mut near = [0; BEFORE];
        for (back, slot) in near.iter_mut().rev().enumerate() {
            *slot = match at.checked_sub(back + 1) {
                Some(index) => text[index],
                None => self.before[BEFORE - 1 - (back - at)],
            };
        }
        let [.., c, b, a] = near;
        if !a.is_ascii_alphanumeric() {
            return true;
        }
        let escape = b == b'\\' && matches!(a, b'n' | b'r' | b't' | b'b' | b'f');
        let hex = near[BEFORE - 4..].iter().all(u8::is_ascii_hexdigit);
        let unicode = hex && near[BEFORE - 6..BEFORE - 4] == *b"\\u";
        let percent = c == b'%' && a.is_ascii_hexdigit() && b.is_ascii_hexdigit();
        let digits = near[..BEFORE - 1].iter().rposition(|b| !(b.is_ascii_digit() || *b == b';'));
        let colour = a == b'm' && digits.is_some_and(|at| near[at] == b'[');
        escape || unicode || percent || colour
    }
}

fn absolute(offset: u64, range: &Range<usize>) -> Range<u64> {
    offset + range.start as u64..offset + range.end as u64
}
