//! Who hears of each change of a wave: whoever `--notify` names, and the issues that the items came from.
//!
//! Called by the coordinator, which hands over its records and goes on; a thread for each hearer delivers them in order, at
//! least once; what finally cannot be delivered is left out. How far it came is in a file, for a successor; a wave that is left
//! to one, as all its providers are parked, leaves him what cannot be told at once. Must never keep the wave waiting, or write
//! its journal.

use super::show::is_coordinated;
use super::write_back::WriteBack;
use crate::Engine;
use crate::error::EngineError;
use crate::notify::{PAUSES, Target, insist};
use crate::secrets::mask_text;
use dx_core::wave::Notices;
use dx_jobdir::{DiskFile, WavePaths, disk};
use dx_protocol::{WaveCreated, WaveEvent, WaveNotice, WaveRecord};
use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the coordinator stays for those who do not take what they are told.
const PATIENCE: Patience = Patience {
    insists: Duration::from_mins(2),
    ends: Duration::from_mins(5),
    leaves: Duration::from_secs(10),
};
/// Ends what is said of a failure after which a successor goes on.
const KEPT: &str = "; what is not told yet is kept for `wave resume`";

/// A kind of hearer, by the names of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Files {
    /// Holds [`cursor`].
    cursor: &'static str,
    failure: &'static str,
}

/// Of `--notify`.
pub(super) const NOTIFY: Files = Files { cursor: "notified", failure: "notify.failure" };
/// Of `--write-back`.
pub(super) const WRITE_BACK: Files = Files { cursor: "written_back", failure: "write_back.failure" };

impl Files {
    /// What could not be delivered last, and why; also that who delivers has died over it.
    pub(super) fn failure(self, paths: &WavePaths, records: &[WaveRecord]) -> Option<String> {
        if let Ok(text) = std::fs::read_to_string(paths.dir().join(self.failure)) {
            return Some(text.trim_end().to_owned());
        }
        self.is_left(paths, records).then(|| format!("who tells it is gone{KEPT}"))
    }

    fn turn_of(self, paths: &WavePaths) -> PathBuf {
        turn_of(&paths.dir().join(self.cursor))
    }

    /// Whether nobody delivers any more, and not everything is delivered or left out.
    fn is_left(self, paths: &WavePaths, records: &[WaveRecord]) -> bool {
        let Some(WaveEvent::Created(created)) = records.first().map(|record| &record.event) else {
            return false;
        };
        let is_wanted = match self {
            NOTIFY => created.notify.is_some(),
            _ => created.write_back,
        };
        if !is_wanted || is_coordinated(records) || is_held(&self.turn_of(paths)) {
            return false;
        }
        let mut notices = Notices::default();
        let last = records.iter().filter_map(|record| notices.next(record)).last();
        last.is_some_and(|last| last.number > cursor(&paths.dir().join(self.cursor)))
    }
}

/// Whether a successor has somebody to tell something.
pub(super) fn is_left(paths: &WavePaths, records: &[WaveRecord]) -> bool {
    [NOTIFY, WRITE_BACK].into_iter().any(|files| files.is_left(paths, records))
}

/// The number of the last notice that nobody needs to try again.
fn cursor(path: &Path) -> u64 {
    let told = std::fs::read_to_string(path).ok();
    told.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
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
    closing: Arc<OnceLock<Closing>>,
}

/// The coordinator ends.
#[derive(Debug, Clone, Copy)]
struct Closing {
    at: Instant,
    /// Another one will go on with the wave.
    resumable: bool,
}

impl Couriers {
    /// Starts with everything that the journal holds.
    pub(super) fn start(
        engine: &Engine,
        created: &WaveCreated,
        paths: &WavePaths,
        known: &[WaveRecord],
    ) -> Result<Self, EngineError> {
        let mut couriers = Self { threads: Vec::new(), closing: Arc::new(OnceLock::new()) };
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
            pauses: PAUSES,
            patience: PATIENCE,
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

    /// Waits until everything is delivered or left out, or too much time was spent in vain: very little when the wave is
    /// `resumable`.
    pub(super) fn finish(self, resumable: bool) {
        let _first = self.closing.set(Closing { at: Instant::now(), resumable });
        let (senders, threads): (Vec<_>, Vec<_>) = self.threads.into_iter().unzip();
        drop(senders);
        for thread in threads {
            let _ended = thread.join();
        }
    }
}

/// Of the time that was spent on failures since the wave ended.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// What fails is tried again until then.
    insists: Duration,
    /// Nothing more is tried after that.
    ends: Duration,
    /// Nor after that, of all time, when somebody goes on with it later.
    leaves: Duration,
}

fn turn_of(cursor: &Path) -> PathBuf {
    cursor.with_extension("lock")
}

/// Whether somebody delivers.
fn is_held(turn: &Path) -> bool {
    std::fs::File::open(turn).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Who delivers to one hearer of a wave is one at a time; without a file to lock, nobody waits.
fn turn(path: &Path) -> Option<DiskFile> {
    let file = DiskFile::open_append_or_create(path).ok()?;
    file.file().lock().is_ok().then_some(file)
}

struct Courier {
    hearer: Result<Hearer, String>,
    cursor: PathBuf,
    failure: PathBuf,
    closing: Arc<OnceLock<Closing>>,
    pauses: [Duration; 3],
    patience: Patience,
}

impl Courier {
    fn work(mut self, known: Vec<WaveRecord>, new: &Receiver<WaveRecord>) {
        // One that still leaves the wave to this one has its last try, and its word, before.
        let _turn = turn(&turn_of(&self.cursor));
        let told = cursor(&self.cursor);
        if std::fs::read_to_string(&self.failure).is_ok_and(|text| text.trim_end().ends_with(KEPT)) {
            let _gone = disk::remove(&self.failure);
        }
        let mut notices = Notices::default();
        let (mut left_out, mut last, mut in_vain) = (0_u32, String::new(), Duration::ZERO);
        for record in known.into_iter().chain(new.iter()) {
            let Some(notice) = notices.next(&record) else { continue };
            if notice.number <= told {
                if let Ok(hearer) = &mut self.hearer {
                    hearer.knows(&notice);
                }
                continue;
            }
            if in_vain > self.patience.ends {
                self.note(&format!("{last}; what came after it was not tried"));
                return;
            }
            if self.leaving().is_some_and(|closing| closing.at.elapsed() > self.patience.leaves) {
                self.note(&format!("the receiver is slow{KEPT}"));
                return;
            }
            let began = Instant::now();
            if let Err(why) = self.deliver(&notice, in_vain > self.patience.insists) {
                if self.leaving().is_some() {
                    self.note(&format!("{why}{KEPT}"));
                    return;
                }
                if self.closing.get().is_some() {
                    in_vain += began.elapsed();
                }
                last = match left_out {
                    0 => why,
                    before => format!("{why}; left out before it: {before}"),
                };
                left_out += 1;
                self.note(&last);
            }
            let _kept = disk::replace(&self.cursor, format!("{}\n", notice.number).as_bytes());
        }
    }

    /// The wave is left to a successor.
    fn leaving(&self) -> Option<&Closing> {
        self.closing.get().filter(|closing| closing.resumable)
    }

    fn note(&self, why: &str) {
        let _told = disk::replace(&self.failure, mask_text(&format!("{why}\n")).as_bytes());
    }

    fn deliver(&mut self, notice: &WaveNotice, once: bool) -> Result<(), String> {
        let hearer = self.hearer.as_mut().map_err(|why| why.clone())?;
        let pauses = if once { &[][..] } else { &self.pauses };
        let closing = &self.closing;
        insist(pauses, || closing.get().is_some_and(|closing| closing.resumable), || hearer.tell(notice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dx_protocol::{Timestamp, WaveEvent, WavePlan};

    /// What a program hears of a wave that has ended, and what is said of the failures; it refuses notices whose number is
    /// matched by `refused`.
    fn told(refused: &str, patience: Patience) -> (String, String, String) {
        told_by(refused, patience, false, [Duration::ZERO; 3])
    }

    fn told_by(
        refused: &str,
        patience: Patience,
        resumable: bool,
        pauses: [Duration; 3],
    ) -> (String, String, String) {
        told_in(tempfile::tempdir().unwrap().path(), refused, patience, resumable, pauses)
    }

    fn told_in(
        folder: &Path,
        refused: &str,
        patience: Patience,
        resumable: bool,
        pauses: [Duration; 3],
    ) -> (String, String, String) {
        let plan = WavePlan {
            name: "w".to_owned(),
            repo: "/".to_owned(),
            base: "main".to_owned(),
            max_parallel: 1,
            fail_fast: false,
            merge_into: None,
            items: Vec::new(),
        };
        let created = WaveCreated {
            schema: dx_protocol::WAVE_JOURNAL_SCHEMA.to_owned(),
            version: dx_protocol::WAVE_JOURNAL_VERSION,
            program: String::new(),
            wave_id: "w-1".to_owned(),
            file: "-".to_owned(),
            cwd: "/".to_owned(),
            notify: None,
            write_back: false,
            exit_when_parked: false,
            plan,
        };
        let process = dx_monitor::record_of(&dx_proc::ProcessIdentity::of_self().unwrap());
        let begun = WaveEvent::Coordinator { process, resumed: false };
        // Each coordinator that begins is a notice: those with the numbers 2 to 6.
        let events = std::iter::once(WaveEvent::Created(Box::new(created)))
            .chain(std::iter::repeat_n(begun, 5))
            .map(|event| WaveRecord { at: Timestamp(0), event });
        let script = format!(
            r#"number=$(sed 's/.*"number":\([0-9]*\).*/\1/'); printf $number >> heard; case $number in {refused}) exit 1 ;; esac"#
        );
        let courier = Courier {
            hearer: Ok(Hearer::Notified(Target::Command {
                program: PathBuf::from("/bin/sh"),
                args: vec!["-c".to_owned(), script],
                cwd: folder.to_owned(),
            })),
            cursor: folder.join("cursor"),
            failure: folder.join("failure"),
            closing: Arc::new(OnceLock::from(Closing { at: Instant::now(), resumable })),
            pauses,
            patience,
        };
        let (sender, receiver) = channel();
        drop(sender);
        courier.work(events.collect(), &receiver);
        let text =
            |name| std::fs::read_to_string(folder.join(name)).unwrap_or_default().trim_end().to_owned();
        (text("heard"), text("cursor"), text("failure"))
    }

    #[test]
    fn what_is_refused_is_left_out_and_the_rest_is_told() {
        let expected = |heard: &str, cursor: &str, failure: &str| {
            (heard.to_owned(), cursor.to_owned(), failure.to_owned())
        };
        let one = "notice 3: it ended with exit status: 1";
        assert_eq!(told("3", PATIENCE), expected("23333456", "6", one));
        let both = "notice 5: it ended with exit status: 1; left out before it: 1";
        assert_eq!(told("3|5", PATIENCE), expected("23333455556", "6", both));
    }

    #[test]
    fn what_is_not_taken_when_the_wave_is_left_is_kept() {
        // Nobody waits for another try, and nothing is left out.
        let pauses = [Duration::from_hours(1); 3];
        let (heard, cursor, failure) = told_by("3", PATIENCE, true, pauses);
        assert_eq!((heard.as_str(), cursor.as_str()), ("23", "2"));
        assert_eq!(failure, format!("notice 3: it ended with exit status: 1{KEPT}"));
        // Nor for one that takes them, but slowly.
        let slow = Patience { leaves: Duration::ZERO, ..PATIENCE };
        assert_eq!(
            told_by("0", slow, true, pauses),
            (String::new(), String::new(), format!("the receiver is slow{KEPT}"))
        );
        assert_eq!(told_by("0", PATIENCE, true, pauses), ("23456".to_owned(), "6".to_owned(), String::new()));
    }

    #[test]
    fn a_successor_waits_for_the_last_word_of_who_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let leaving = turn(&at("cursor.lock")).unwrap();
        let heard = std::thread::scope(|scope| {
            let successor = scope.spawn(|| told_in(folder.path(), "0", PATIENCE, false, [Duration::ZERO; 3]));
            std::fs::write(at("failure"), format!("the receiver is slow{KEPT}")).unwrap();
            std::fs::write(at("cursor"), "4\n").unwrap();
            drop(leaving);
            successor.join().unwrap()
        });
        assert_eq!(heard, ("56".to_owned(), "6".to_owned(), String::new()));
    }

    #[test]
    fn who_refuses_everything_is_asked_once_each_and_then_no_more() {
        let patience = Patience { insists: Duration::ZERO, ends: Duration::MAX, ..PATIENCE };
        let (heard, cursor, failure) = told("*", patience);
        assert_eq!((heard.as_str(), cursor.as_str()), ("22223456", "6"));
        assert_eq!(failure, "notice 6: it ended with exit status: 1; left out before it: 4");
        let (heard, cursor, failure) = told("*", Patience { ends: Duration::ZERO, ..patience });
        assert_eq!((heard.as_str(), cursor.as_str()), ("2222", "2"));
        assert_eq!(failure, "notice 2: it ended with exit status: 1; what came after it was not tried");
    }
}
