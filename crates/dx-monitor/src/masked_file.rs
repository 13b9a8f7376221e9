//! A file of an agent's output that is masked while it is read: readers get no secret, and, for those that may write, the
//! file has none afterwards. Same length, same offsets.
//!
//! Called by the monitor's follower and by the settler. The agent may append at the same time, overwrite or cut the file:
//! only bytes that are still the ones that were read are overwritten. Never makes a file longer or keeps it in memory.

use dx_events::mask::{MASK, MaskStream, Secrets};
use dx_jobdir::{DiskFile, open_regular};
use rustix::fs::SeekFrom;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A hole is looked for when so much is left.
const WORTH_SKIPPING: u64 = 1 << 20;
/// Overwritten at once.
const PIECE: usize = 4 << 10;

/// Whether secrets are only kept from the reader or also taken out of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Mend,
}

/// The file and how far it has been read.
#[derive(Debug)]
pub struct MaskedFile {
    file: File,
    stream: MaskStream<Arc<Secrets>>,
    mender: Mender,
}

impl MaskedFile {
    /// Opens at the beginning; `None` for what is no regular file.
    pub fn open(path: &Path, secrets: &Arc<Secrets>, access: Access) -> Option<Self> {
        let mender = Mender { path: path.to_owned(), access, writer: None, failed: false };
        Some(Self { file: open_regular(path).ok()?, stream: secrets.stream(), mender })
    }

    /// Bytes in the file.
    pub fn len(&self) -> u64 {
        self.file.metadata().map_or(0, |m| m.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Offset of the next byte to be read.
    pub fn offset(&self) -> u64 {
        self.stream.offset()
    }

    /// Goes on at `offset`; the file was cut.
    pub fn resync(&mut self, offset: u64) {
        self.stream.resync(offset);
    }

    /// Reads once, at most as much as the buffer holds. `out` gets what is decided, masked. Returns the bytes read.
    pub fn read(&mut self, buffer: &mut [u8], out: &mut dyn FnMut(&[u8])) -> usize {
        let Self { file, stream, mender } = self;
        let got = loop {
            match file.read_at(buffer, stream.offset()) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other.unwrap_or(0),
            }
        };
        stream.feed(&buffer[..got], &mut |range, was| mender.mend(file, &range, was), out);
        got
    }

    /// Passes over a hole of the file: there is nothing to mask in it, and it may be huge. For readers that have no use for
    /// its zeros.
    pub fn skip_hole(&mut self) {
        let (offset, len) = (self.offset(), self.len());
        if len.saturating_sub(offset) < WORTH_SKIPPING {
            return;
        }
        let data = match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) => data,
            // No data from here on.
            Err(rustix::io::Errno::NXIO) => len,
            Err(_) => return,
        };
        if data > offset {
            self.finish(&mut |_| {});
            self.stream.resync(data);
        }
    }

    /// Takes out what stands in the undecided end. For a reader that has come to the end for now.
    pub fn mend_end(&mut self) {
        let Self { file, stream, mender } = self;
        if stream.pending() > 0 {
            stream.standing(&mut |range, was| mender.mend(file, &range, was));
        }
    }

    /// Hands out the rest, when nothing more will come.
    pub fn finish(&mut self, out: &mut dyn FnMut(&[u8])) {
        let Self { file, stream, mender } = self;
        stream.finish(&mut |range, was| mender.mend(file, &range, was), out);
    }

    /// Whether a secret could not be taken out of the file.
    pub fn failed(&self) -> bool {
        self.mender.failed
    }
}

/// The writing half.
#[derive(Debug)]
struct Mender {
    path: PathBuf,
    access: Access,
    writer: Option<DiskFile>,
    failed: bool,
}

impl Mender {
    fn mend(&mut self, file: &File, range: &Range<u64>, was: &[u8]) {
        if self.access == Access::Read {
            return;
        }
        let offsets = (range.start..).step_by(PIECE);
        for (offset, was) in offsets.zip(was.chunks(PIECE)) {
            let mut now = [0; PIECE];
            let now = &mut now[..was.len()];
            // Cut or overwritten meanwhile, or masked already.
            if file.read_exact_at(now, offset).is_err() || now != was || was.iter().all(|b| *b == MASK) {
                continue;
            }
            now.fill(MASK);
            self.failed |= !self.write(offset, now);
        }
    }

    /// The file must not be opened for appending: Linux then appends whatever the offset is.
    fn write(&mut self, offset: u64, stars: &[u8]) -> bool {
        if self.writer.is_none() {
            self.writer = DiskFile::open_fixed(&self.path).ok();
        }
        self.writer.as_ref().is_some_and(|writer| writer.write_at(offset, stars).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"hunter-2-secret";

    fn read_all(file: &mut MaskedFile) -> Vec<u8> {
        let (mut seen, mut buffer) = (Vec::new(), [0; 7]);
        while file.read(&mut buffer, &mut |bytes| seen.extend_from_slice(bytes)) > 0 {}
        seen
    }

    #[test]
    fn what_is_still_there_is_overwritten_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let secrets = Arc::new(Secrets::new([SECRET]));
        std::fs::write(&path, [b"a ", SECRET, b" b ", SECRET, b"\nhunter-2-sec"].concat()).unwrap();

        let mut reader = MaskedFile::open(&path, &secrets, Access::Read).unwrap();
        let mut seen = read_all(&mut reader);
        reader.finish(&mut |bytes| seen.extend_from_slice(bytes));
        let expected = b"a *************** b ***************\nhunter-2-sec";
        assert_eq!(seen, expected);
        assert_eq!(std::fs::read(&path).unwrap().windows(15).filter(|w| *w == SECRET).count(), 2);

        let mut mender = MaskedFile::open(&path, &secrets, Access::Mend).unwrap();
        read_all(&mut mender);
        mender.mend_end();
        assert_eq!(std::fs::read(&path).unwrap(), expected);
        // The rest of a value that came in two parts.
        let mut file = File::options().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, b"ret").unwrap();
        read_all(&mut mender);
        assert!(std::fs::read(&path).unwrap().ends_with(b"\n***************"));
        assert!(!mender.failed());

        // Cut and written anew between the read and the write: what stands there now is none of ours.
        std::fs::write(&path, b"short").unwrap();
        mender.mender.mend(&mender.file, &(2..17), SECRET);
        std::fs::write(&path, b"something else altogether").unwrap();
        mender.mender.mend(&mender.file, &(2..17), SECRET);
        assert_eq!(std::fs::read(&path).unwrap(), b"something else altogether");
    }
}
