//! Who hears of each change of a wave: whoever `--notify` names, and the issues that the items came from.
//!
//! Called by the coordinator, which hands over its records and goes on; a thread for each hearer delivers them in order, at
//! least once. How far it came is in a file, for a successor. Must never keep the wave waiting, or write its journal.

use super::write_back::WriteBack;
use crate::Engine;
use crate::error::EngineError;
use crate::notify::{Target, insist};
use crate::secrets::mask_text;
use dx_core::wave::Notices;
use dx_jobdir::{WavePaths, disk};
use dx_protocol::{WaveCreated, WaveNotice, WaveRecord};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// A kind of hearer, by the names of its files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Files {
    /// The number of the last notice that nobody needs to try again.
    cursor: &'static str,
    failure: &'static str,
}

/// Of `--notify`.
pub(super) const NOTIFY: Files = Files { cursor: "notified", failure: "notify.failure" };
/// Of `--write-back`.
pub(super) const WRITE_BACK: Files = Files { cursor: "written_back", failure: "write_back.failure" };

impl Files {
    /// What could not be delivered last, and why.
    pub(super) fn failure(self, paths: &WavePaths) -> Option<String> {
        let text = std::fs::read_to_string(paths.dir().join(self.failure)).ok()?;
        Some(text.trim_end().to_owned())
    }
}

/// Who hears.
enum Hearer {
    Notified(Target),
    Issues(WriteBack),
}

impl Hearer {
    /// One try.
    fn tell(&mut self, notice: &WaveNotice) -> Result<(), String> {
        match self {
            Self::Notified(target) => {
                target.tell(notice).map_err(|why| format!("notice {}: {why}", notice.number))
            }
            Self::Issues(issues) => issues.tell(notice),
        }
    }

    /// Takes note of what was delivered before.
    fn knows(&mut self, notice: &WaveNotice) {
        if let Self::Issues(issues) = self {
            issues.knows(notice);
        }
    }
}

/// The coordinator's hand on the threads that deliver.
#[derive(Debug)]
pub(super) struct Couriers {
    threads: Vec<(Sender<WaveRecord>, JoinHandle<()>)>,
    closing: Arc<AtomicBool>,
}

impl Couriers {
    /// Starts with everything that the journal holds.
    pub(super) fn start(
        engine: &Engine,
        created: &WaveCreated,
        paths: &WavePaths,
        known: &[WaveRecord],
    ) -> Result<Self, EngineError> {
        let mut couriers = Self { threads: Vec::new(), closing: Arc::new(AtomicBool::new(false)) };
        if let Some(notify) = &created.notify {
            let target = Target::of(notify, Path::new(&created.cwd)).map(Hearer::Notified);
            couriers.add(target, NOTIFY, paths, known)?;
        }
        if created.write_back {
            let issues = WriteBack::new(engine, created).map(Hearer::Issues);
            couriers.add(issues, WRITE_BACK, paths, known)?;
        }
        Ok(couriers)
    }

    fn add(
        &mut self,
        hearer: Result<Hearer, String>,
        files: Files,
        paths: &WavePaths,
        known: &[WaveRecord],
    ) -> Result<(), EngineError> {
        let (records, receiver) = channel();
        let courier = Courier {
            hearer,
            cursor: paths.dir().join(files.cursor),
            failure: paths.dir().join(files.failure),
            closing: Arc::clone(&self.closing),
        };
        let known = known.to_vec();
        let thread = std::thread::Builder::new()
            .spawn(move || courier.work(known, &receiver))
            .map_err(|source| EngineError::Io { what: "start a thread", source })?;
        self.threads.push((records, thread));
        Ok(())
    }

    pub(super) fn tell(&self, record: &WaveRecord) {
        for (records, _) in &self.threads {
            // Whoever gave up needs to hear nothing.
            let _heard = records.send(record.clone());
        }
    }

    /// Waits until everything is delivered, or one notice finally cannot be.
    pub(super) fn finish(self) {
        self.closing.store(true, Ordering::Relaxed);
        let (senders, threads): (Vec<_>, Vec<_>) = self.threads.into_iter().unzip();
        drop(senders);
        for thread in threads {
            let _ended = thread.join();
        }
    }
}

struct Courier {
    hearer: Result<Hearer, String>,
    cursor: PathBuf,
    failure: PathBuf,
    closing: Arc<AtomicBool>,
}

impl Courier {
    fn work(mut self, known: Vec<WaveRecord>, new: &Receiver<WaveRecord>) {
        let told = std::fs::read_to_string(&self.cursor).ok();
        let told: u64 = told.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let mut notices = Notices::default();
        for record in known.into_iter().chain(new.iter()) {
            let Some(notice) = notices.next(&record) else { continue };
            if notice.number <= told {
                if let Ok(hearer) = &mut self.hearer {
                    hearer.knows(&notice);
                }
                continue;
            }
            if let Err(why) = self.deliver(&notice) {
                let closing = self.closing.load(Ordering::Relaxed);
                let rest = if closing { "; what came after it was not tried" } else { "" };
                let _told = disk::replace(&self.failure, mask_text(&format!("{why}{rest}\n")).as_bytes());
                if closing {
                    return;
                }
            }
            let _kept = disk::replace(&self.cursor, format!("{}\n", notice.number).as_bytes());
        }
    }

    fn deliver(&mut self, notice: &WaveNotice) -> Result<(), String> {
        let hearer = self.hearer.as_mut().map_err(|why| why.clone())?;
        insist(|| hearer.tell(notice))
    }
}
