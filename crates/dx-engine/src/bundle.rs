//! `bundle`: what somebody else needs to understand one run, in one file that holds no secret.
//!
//! Every text passes the mask again, also what is masked on disk already. Left out on purpose: the prompt, the changed
//! files, the environment. Order, owners, modes and times are fixed.

use crate::Engine;
use crate::api::JobName;
use crate::error::EngineError;
use crate::lookup::{self, Record};
use crate::prompt::sha256_hex;
use crate::secrets::{self, Masking, own_secrets};
use dx_jobdir::{StateDir, open_regular};
use dx_monitor::Access;
use dx_proc::Host;
use dx_protocol::{BundleDocument, BundleEntry, ReportDocument};
use flate2::{Compression, GzBuilder};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const SCHEMA: &str = "dx-runner/bundle/1";
/// Of a longer file the beginning and the end are taken.
const HEAD: u64 = 1 << 20;
const TAIL: u64 = 3 << 20;
/// Published files of the newest run that say something; `log`, `err` and the journal are taken from the run.
const VIEWS: [&str; 7] = ["contract", "heartbeat", "meta", "mutation", "obs", "outcome", "rc"];
const LEFT_OUT: [&str; 3] = [
    "prompt: it may hold what is nobody else's business; its sha256 is in views/contract",
    "changed files and diff: they are the repository's",
    "environment: variables are in views/contract by name only",
];

/// A file on its way into the bundle.
struct Part {
    path: String,
    bytes: Vec<u8>,
    cut_bytes: u64,
}

impl Part {
    fn whole(path: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { path: path.into(), bytes, cut_bytes: 0 }
    }
}

impl Engine {
    /// Writes the bundle of a job's newest run to `file`, replacing what was there.
    pub fn bundle(&self, job: &JobName, file: &Path) -> Result<BundleDocument, EngineError> {
        let report = self.report(job, None)?;
        let parts = self.parts(job, &report)?;
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.ok_or_else(|| EngineError::Output {
            path: file.to_owned(),
            source: io::Error::from(io::ErrorKind::IsADirectory),
        })?;
        let manifest = manifest(&report, &parts, name);
        let folder = format!("dx-runner-{}", report.beads);
        let seconds = dx_protocol::Timestamp::parse(&report.completed_at)
            .or_else(|| dx_protocol::Timestamp::parse(&report.started_at))
            .map_or(0, |at| u64::try_from(at.0 / 1000).unwrap_or(0));
        let output = |source| EngineError::Output { path: file.to_owned(), source };
        let first = Part::whole("manifest.json", pretty(&manifest)?);
        let temporary = Temporary::beside(file).map_err(output)?;
        let write = |to: &File| -> io::Result<()> {
            let gzip = GzBuilder::new().mtime(0).write(to, Compression::default());
            let mut archive = tar::Builder::new(gzip);
            for part in [&first].into_iter().chain(&parts) {
                append(&mut archive, &format!("{folder}/{}", part.path), &part.bytes, seconds)?;
            }
            archive.into_inner()?.finish()?.sync_all()
        };
        write(&temporary.file).and_then(|()| temporary.keep(file)).map_err(output)?;
        Ok(BundleDocument { file: file.display().to_string(), ..manifest })
    }

    fn parts(&self, job: &JobName, report: &ReportDocument) -> Result<Vec<Part>, EngineError> {
        let mut parts = vec![
            Part::whole("report.json", pretty(report)?),
            Part::whole("doctor.json", pretty(&self.doctor())?),
        ];
        let mut secrets = own_secrets();
        // Nothing is on disk of a job that only the history knows.
        if let Some(state) = self.state_for_reading()?
            && let Some(record) = lookup::newest_known(&state, job)?
        {
            if let Record::Ours(found) = &record {
                secrets::also(&secrets::of_agent(&Host::current()?, found));
                secrets = Masking::again(&found.run.created, Access::Read).secrets;
            }
            parts.extend(record_parts(&state, job, &record));
        }
        for part in &mut parts {
            if let Some(masked) = secrets.mask_bytes(&part.bytes) {
                part.bytes = masked;
            }
        }
        parts.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(parts)
    }
}

/// What is on disk of a job: its newest run's files and the views.
fn record_parts(state: &StateDir, job: &JobName, record: &Record) -> Vec<Part> {
    let (provider, files) = match record {
        Record::Ours(found) => {
            let paths = &found.paths;
            let files = vec![
                (found.journal.clone(), "run/journal.jsonl"),
                (paths.exit(), "run/exit"),
                (paths.log(), "run/log"),
                (paths.err(), "run/err"),
            ];
            (&found.run.created.ids.provider, files)
        }
        Record::Foreign(foreign) => {
            let log = state.view(&foreign.provider, &foreign.beads, "log");
            (&foreign.provider, vec![(log, "run/log")])
        }
    };
    let files = files.into_iter().map(|(path, name)| (path, name.to_owned()));
    let views = VIEWS.map(|suffix| (state.view(provider, &job.beads, suffix), format!("views/{suffix}")));
    files.chain(views).filter_map(|(path, name)| part(&path, name)).collect()
}

/// A file's text, its middle left out when it is long; `None` when there is no such file.
fn part(path: &Path, name: String) -> Option<Part> {
    let mut file = open_regular(path).ok()?;
    let len = file.metadata().ok()?.len();
    let mut bytes = Vec::new();
    if len <= HEAD + TAIL {
        file.take(HEAD + TAIL).read_to_end(&mut bytes).ok()?;
        // The exit file's slots are filled up with NUL.
        bytes.retain(|byte| *byte != 0);
        return Some(Part::whole(name, bytes));
    }
    (&file).take(HEAD).read_to_end(&mut bytes).ok()?;
    bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1));
    let head = bytes.len() as u64;
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(len - TAIL)).ok()?;
    file.take(TAIL).read_to_end(&mut tail).ok()?;
    // From a line's beginning on: half a secret is not known for one.
    let begin = tail.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let cut_bytes = len.saturating_sub(head + (tail.len() - begin) as u64);
    bytes.extend_from_slice(format!("… {cut_bytes} bytes are left out here …\n").as_bytes());
    bytes.extend_from_slice(&tail[begin..]);
    Some(Part { path: name, bytes, cut_bytes })
}

fn manifest(report: &ReportDocument, parts: &[Part], file: String) -> BundleDocument {
    let entry = |part: &Part| BundleEntry {
        path: part.path.clone(),
        bytes: part.bytes.len() as u64,
        sha256: sha256_hex(&part.bytes),
        cut_bytes: part.cut_bytes,
    };
    BundleDocument {
        schema: SCHEMA.to_owned(),
        beads: report.beads.clone(),
        provider: report.provider.clone(),
        run_instance: report.run_instance.clone(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        file,
        contents: parts.iter().map(entry).collect(),
        left_out: LEFT_OUT.map(str::to_owned).to_vec(),
    }
}

fn pretty(document: &impl serde::Serialize) -> Result<Vec<u8>, EngineError> {
    let mut bytes = serde_json::to_vec_pretty(document)
        .map_err(|source| EngineError::Io { what: "write a document as JSON", source: source.into() })?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn append(archive: &mut tar::Builder<impl Write>, path: &str, bytes: &[u8], seconds: u64) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(seconds);
    archive.append_data(&mut header, path, bytes)
}

/// A file beside the wanted one that goes away unless it is kept. Nobody sees half a bundle.
struct Temporary {
    file: File,
    path: PathBuf,
}

impl Temporary {
    fn beside(file: &Path) -> io::Result<Self> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let path = file.with_file_name(format!(".{name}.tmp-{}", std::process::id()));
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { file: opened, path })
    }

    /// Gives it the wanted name. A link or file of that name is replaced, what a link leads to is not.
    fn keep(&self, file: &Path) -> io::Result<()> {
        if file.is_dir() && !file.is_symlink() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        std::fs::rename(&self.path, file)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After `keep` there is none.
        let _gone = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_loses_its_middle_at_line_ends() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("log");
        let line = |n: usize| format!("line {n:08}\n");
        let text: String = (0..500_000).map(line).collect();
        std::fs::write(&path, &text).unwrap();
        let part = part(&path, "run/log".to_owned()).unwrap();
        let shown = String::from_utf8(part.bytes).unwrap();
        assert!(shown.starts_with(&line(0)) && shown.ends_with(&line(499_999)));
        let odd: Vec<&str> = shown.lines().filter(|line| line.len() != 13).collect();
        assert_eq!(odd, [format!("… {} bytes are left out here …", part.cut_bytes)]);
        let kept = shown.len() - odd[0].len() - 1;
        assert_eq!(kept as u64 + part.cut_bytes, text.len() as u64);
        assert!(kept as u64 <= HEAD + TAIL && part.cut_bytes > 0);
    }

    #[test]
    fn what_is_no_plain_file_is_no_part() {
        let tmp = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", tmp.path().join("link")).unwrap();
        assert!(part(&tmp.path().join("link"), String::new()).is_none());
        assert!(part(tmp.path(), String::new()).is_none());
    }
}
