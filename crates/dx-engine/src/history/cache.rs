//! The SQLite cache of the history: table `runs`, made from the lines of `history/` and of the ended index, each file
//! from where it was read to last time.
//!
//! A cache and nothing more: it is deleted and made again when it is damaged or of another version, and it is made in
//! memory when the file cannot be used (locked by another process, read-only, full disk). SQLite writes its file itself,
//! the one exception to "all writes go through the write layer". Must never: fail for the state of its file.

use crate::error::EngineError;
use dx_jobdir::{StateDir, history, open_regular};
use dx_protocol::{HISTORY_SCHEMA, HistoryLine, Outcome, Timestamp};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, params};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Version of the tables; another one is thrown away.
const VERSION: i64 = 1;
/// How long another reader's update is waited for.
const PATIENCE: Duration = Duration::from_millis(250);
/// No line is longer; the rest of a longer one is skipped.
const MAX_LINE: u64 = 16 << 20;

/// A cache that is up to date.
#[derive(Debug)]
pub(crate) struct Cache {
    db: Connection,
}

/// Why an attempt came to nothing.
#[derive(Debug)]
enum Failed {
    /// What is in the file is not to be used: delete it.
    Damaged,
    /// The file cannot be used now.
    Unusable,
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::CannotOpen
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure,
            ) => Self::Unusable,
            _ => Self::Damaged,
        }
    }
}

impl Cache {
    /// Brings the cache up to date and asks it something. Damage that only the asking meets costs one more try.
    pub(crate) fn ask<T>(
        state: &StateDir,
        ask: impl Fn(&mut Self) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let path = state.cache_dir().join("history.sqlite");
        match ask(&mut Self::open(state, &path)?) {
            Err(EngineError::History(_)) if remove(&path).is_ok() => ask(&mut Self::open(state, &path)?),
            Err(EngineError::History(_)) => ask(&mut Self::in_memory(state)?),
            answer => answer,
        }
    }

    fn open(state: &StateDir, path: &Path) -> Result<Self, EngineError> {
        let mut opened = Self::on_disk(state, path);
        if matches!(opened, Err(Failed::Damaged)) {
            opened = match remove(path) {
                Ok(()) => Self::on_disk(state, path),
                Err(_) => Err(Failed::Unusable),
            };
        }
        match opened {
            Ok(cache) => Ok(cache),
            Err(_) => Self::in_memory(state),
        }
    }

    /// A cache of its own, made from nothing, that ends with the process.
    fn in_memory(state: &StateDir) -> Result<Self, EngineError> {
        let mut cache = Self::empty()?;
        match update(&mut cache.db, state) {
            Ok(()) => Ok(cache),
            Err(_) => Err(EngineError::History("the history could not be read".to_owned())),
        }
    }

    /// For a state directory that is not there yet.
    pub(crate) fn empty() -> Result<Self, EngineError> {
        let db = Connection::open_in_memory()?;
        make_tables(&db)?;
        Ok(Self { db })
    }

    fn on_disk(state: &StateDir, path: &Path) -> Result<Self, Failed> {
        state.make_cache_dir().map_err(|_| Failed::Unusable)?;
        // Made here for its mode; SQLite takes an empty file for a new database.
        let mut made = std::fs::OpenOptions::new();
        made.write(true).create(true).truncate(false).mode(0o600);
        made.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
        made.open(path).map_err(|_| Failed::Unusable)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let mut db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(PATIENCE)?;
        let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        match (version, tables) {
            (VERSION, _) => {}
            (0, 0) => make_tables(&db)?,
            _ => return Err(Failed::Damaged),
        }
        update(&mut db, state)?;
        drop(db.prepare(&format!("SELECT {} FROM runs", column_names()))?);
        Ok(Self { db })
    }

    pub(crate) fn db(&mut self) -> &mut Connection {
        &mut self.db
    }

    /// Runs that are in the ended index and not in the history.
    pub(crate) fn unrecorded(&self) -> Result<Vec<HistoryLine>, EngineError> {
        self.lines("run_uuid NOT IN (SELECT run_uuid FROM recorded) ORDER BY completed_at", &[])
    }

    /// Runs that ended since then, the last one first.
    pub(crate) fn since(&self, since: Option<Timestamp>) -> Result<Vec<HistoryLine>, EngineError> {
        // As the columns have it, so that text compares as time does.
        let since = serde_json::to_value(since.unwrap_or_default()).unwrap_or_default();
        let since = since.as_str().unwrap_or_default().to_owned();
        self.lines("completed_at >= ?1 ORDER BY completed_at DESC, run_uuid DESC", &[&since])
    }

    fn lines(
        &self,
        condition: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<HistoryLine>, EngineError> {
        let sql = format!("SELECT {} FROM runs WHERE {condition}", column_names());
        let mut statement = self.db.prepare(&sql)?;
        let mut rows = statement.query(values)?;
        let mut lines = Vec::new();
        while let Some(row) = rows.next()? {
            let mut fields = serde_json::Map::new();
            fields.insert("schema".to_owned(), HISTORY_SCHEMA.into());
            for (at, column) in HistoryLine::COLUMNS.iter().enumerate() {
                let value = serde_json::to_value(super::query::value(row.get_ref(at)?));
                fields.insert(column.name.to_owned(), value.unwrap_or_default());
            }
            lines.extend(serde_json::from_value(fields.into()));
        }
        Ok(lines)
    }
}

fn column_names() -> String {
    HistoryLine::COLUMNS.iter().map(|column| column.name).collect::<Vec<_>>().join(", ")
}

fn remove(path: &Path) -> io::Result<()> {
    let mut journal = path.as_os_str().to_owned();
    journal.push("-journal");
    for path in [PathBuf::from(journal), path.to_owned()] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn make_tables(db: &Connection) -> rusqlite::Result<()> {
    let columns: Vec<String> =
        HistoryLine::COLUMNS.iter().map(|column| format!("{} {}", column.name, column.sql)).collect();
    db.execute_batch(&format!(
        "BEGIN IMMEDIATE;
         CREATE TABLE runs ({}) STRICT;
         CREATE INDEX runs_completed ON runs (completed_at);
         CREATE TABLE recorded (run_uuid TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
         CREATE TABLE sources (name TEXT PRIMARY KEY, inode INTEGER, bytes INTEGER) STRICT, WITHOUT ROWID;
         PRAGMA user_version = {VERSION};
         COMMIT;",
        columns.join(", ")
    ))
}

/// A file of lines.
struct Source {
    name: String,
    path: PathBuf,
    inode: i64,
    bytes: i64,
    /// Of the history; else of the ended index.
    recorded: bool,
}

/// The files as they are. The index comes first: a run that ends between two looks is then in the history at worst.
fn sources(state: &StateDir) -> Vec<Source> {
    let index = dx_jobdir::ended::days(state).into_iter().map(|day| (state.ended(&day), false));
    let months = history::files(state).into_iter().map(|path| (path, true));
    let source = |(path, recorded): (PathBuf, bool)| {
        let meta = std::fs::symlink_metadata(&path).ok()?;
        let folder = if recorded { "history" } else { "ended" };
        let name = format!("{folder}/{}", path.file_name()?.to_string_lossy());
        let (inode, bytes) = (meta.ino().cast_signed(), meta.len().cast_signed());
        Some(Source { name, path, inode, bytes, recorded })
    };
    index.chain(months).filter_map(source).collect()
}

fn update(db: &mut Connection, state: &StateDir) -> Result<(), Failed> {
    let now = sources(state);
    let mut changed = Vec::new();
    for source in now {
        let known: Option<(i64, i64)> = db
            .query_row("SELECT inode, bytes FROM sources WHERE name = ?1", [&source.name], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        match known {
            Some((inode, bytes)) if inode == source.inode && bytes == source.bytes => {}
            Some((inode, bytes)) if inode == source.inode && bytes < source.bytes => {
                changed.push((source, bytes));
            }
            // A history that shrank has lost runs, of which this shall tell no more.
            Some(_) if source.recorded => return Err(Failed::Damaged),
            Some(_) | None => changed.push((source, 0)),
        }
    }
    let mut gone = db.prepare("SELECT name FROM sources WHERE name LIKE 'history/%'")?;
    let names: Vec<String> = gone.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    drop(gone);
    let folder = state.history_dir();
    if names.iter().any(|name| !folder.join(&name["history/".len()..]).exists()) {
        return Err(Failed::Damaged);
    }
    if changed.is_empty() {
        return Ok(());
    }
    let write = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (source, from) in &changed {
        // One that cannot be read now is read next time.
        let Ok(bytes) = take(&write, source, *from)? else { continue };
        write.execute(
            "INSERT OR REPLACE INTO sources (name, inode, bytes) VALUES (?1, ?2, ?3)",
            params![source.name, source.inode, bytes],
        )?;
    }
    Ok(write.commit()?)
}

/// Takes the lines in from an offset; gives the end of the last whole one.
fn take(db: &Connection, source: &Source, from: i64) -> Result<io::Result<i64>, Failed> {
    let open = || {
        let mut file = open_regular(&source.path)?;
        file.seek(SeekFrom::Start(from.cast_unsigned()))?;
        Ok(BufReader::with_capacity(256 << 10, file))
    };
    let mut reader = match open() {
        Ok(reader) => reader,
        Err(error) => return Ok(Err(error)),
    };
    let names = column_names();
    let marks: Vec<String> = (1..=HistoryLine::COLUMNS.len()).map(|n| format!("?{n}")).collect();
    let mut insert =
        db.prepare(&format!("INSERT OR REPLACE INTO runs ({names}) VALUES ({})", marks.join(", ")))?;
    let mut record = db.prepare("INSERT OR IGNORE INTO recorded (run_uuid) VALUES (?1)")?;
    let mut end = from;
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let read = match reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes) {
            Ok(read) => read,
            Err(error) => return Ok(Err(error)),
        };
        if read == 0 {
            return Ok(Ok(end));
        }
        if let Some(line) = parse(&bytes, source.recorded) {
            put(&mut insert, &line)?;
            if source.recorded {
                record.execute([&line.run_uuid])?;
            }
        }
        // The last line may be half written: it is looked at again.
        if bytes.last() != Some(&b'\n') && (read as u64) < MAX_LINE {
            return Ok(Ok(end));
        }
        end += read as i64;
    }
}

/// One line; `None` for what is none, or of a newer version.
pub(super) fn parse(bytes: &[u8], recorded: bool) -> Option<HistoryLine> {
    let line = if recorded {
        serde_json::from_slice::<HistoryLine>(bytes).ok()?
    } else {
        history::line_of(&serde_json::from_slice::<Outcome>(bytes).ok()?)
    };
    (line.schema == HISTORY_SCHEMA && !line.run_uuid.is_empty()).then_some(line)
}

fn put(insert: &mut rusqlite::Statement<'_>, line: &HistoryLine) -> Result<(), Failed> {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(line) else { return Ok(()) };
    for (at, column) in HistoryLine::COLUMNS.iter().enumerate() {
        let value = fields.get(column.name).unwrap_or(&serde_json::Value::Null);
        let at = at + 1;
        match value {
            serde_json::Value::String(text) => insert.raw_bind_parameter(at, text)?,
            serde_json::Value::Number(number) if column.sql == "REAL" => {
                insert.raw_bind_parameter(at, number.as_f64())?;
            }
            // SQLite has no larger numbers.
            serde_json::Value::Number(number) => {
                insert.raw_bind_parameter(at, number.as_i64().unwrap_or(i64::MAX))?;
            }
            _ => insert.raw_bind_parameter(at, rusqlite::types::Null)?,
        }
    }
    insert.raw_execute()?;
    Ok(())
}
