//! Other agents as clients: where their configuration and their skills are, and how one entry gets there.
//!
//! Called by: `mcp install` and `skill install`. Must never: change or lose anything else in a file that is not ours, or
//! write one that could not be read.

mod entry;

use clap::ValueEnum;
use dx_protocol::ReasonCode;
use schemars::JsonSchema;
use serde::Serialize;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::error::CliError;

/// Ours among a client's servers.
const NAME: &str = "dx-runner";
/// Codex hands only what is named on to its servers: what our commands and their agents look at.
const PASSED: [&str; 13] = [
    "ANTHROPIC_API_KEY",
    "CC_GLM_AUTH_TOKEN",
    "DX_RUNNER_STATE_DIR",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "OPENAI_API_KEY",
    "OPENCODE_SERVER_PASSWORD",
    "OPENCODE_URL",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "ZAI_API_KEY",
];
/// The skills that come with this program: name and content.
const SKILLS: [(&str, &str); 2] = [
    ("dx-runner", include_str!("../../../../skills/dx-runner/SKILL.md")),
    ("opencode-dispatch", include_str!("../../../../skills/opencode-dispatch/SKILL.md")),
];

/// An agent whose configuration is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Client {
    Opencode,
    Claude,
    Gemini,
    Codex,
}

/// `mcp install --json` and `skill install --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct InstallDocument {
    schema: String,
    /// `opencode`, `claude`, `gemini` or `codex`.
    client: String,
    files: Vec<InstalledFile>,
    /// Nothing was written.
    dry_run: bool,
}

/// One file of a client.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct InstalledFile {
    file: String,
    /// `false` when all was there already.
    changed: bool,
    /// What is ours in it.
    entry: String,
}

/// What a client starts: a program and its arguments.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    program: String,
    args: Vec<String>,
    /// Variables that its configuration names, beside those that all have.
    variables: Vec<String>,
}

impl Server {
    /// This program. The name on PATH outlives an update, where it leads here.
    pub(crate) fn ours(ctx: &Context, client: Client) -> Result<Self, CliError> {
        let failed = |source| CliError::Io {
            what: "find this program".to_owned(),
            reason: ReasonCode::Internal,
            source,
        };
        let running = std::env::current_exe().map_err(failed)?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let named = std::env::split_paths(&path).map(|folder| folder.join("dx-runner"));
        let found = named.filter(|path| path.is_absolute()).find(|path| path.is_file());
        let same = found.filter(|path| path.canonicalize().ok() == running.canonicalize().ok());
        let text = |path: OsString| {
            path.into_string().map_err(|path| {
                let message =
                    format!("{} is not UTF-8, which the client's configuration has to be", path.display());
                CliError::refused(ReasonCode::InvalidArgument, message)
            })
        };
        let program = text(same.unwrap_or(running).into_os_string())?;
        let words = std::iter::once("mcp".into()).chain(ctx.global_args());
        // The others hand everything on.
        let codex = client == Client::Codex;
        let variables = if codex { ctx.engine.endpoint_variables()? } else { Vec::new() };
        Ok(Self { program, args: words.map(text).collect::<Result<_, _>>()?, variables })
    }
}

impl InstallDocument {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let line = |file: &InstalledFile| {
            let word = match (file.changed, self.dry_run) {
                (false, _) => "unchanged",
                (true, true) => "would write",
                (true, false) => "wrote",
            };
            format!("{word} {}\n{}", file.file, file.entry.trim_end())
        };
        self.files.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

impl Client {
    fn word(self) -> &'static str {
        match self {
            Self::Opencode => "opencode",
            Self::Claude => "claude",
            Self::Gemini => "gemini",
            Self::Codex => "codex",
        }
    }

    /// The file that names its servers.
    fn config(self) -> Result<PathBuf, CliError> {
        Ok(match self {
            Self::Opencode => {
                let folder = folder("XDG_CONFIG_HOME", ".config")?.join("opencode");
                let commented = folder.join("opencode.jsonc");
                if commented.exists() { commented } else { folder.join("opencode.json") }
            }
            Self::Claude => folder("CLAUDE_CONFIG_DIR", "")?.join(".claude.json"),
            Self::Gemini => folder("GEMINI_CLI_HOME", "")?.join(".gemini/settings.json"),
            Self::Codex => folder("CODEX_HOME", ".codex")?.join("config.toml"),
        })
    }

    /// The folder of its user's skills.
    fn skills(self) -> Result<PathBuf, CliError> {
        Ok(match self {
            Self::Opencode => folder("XDG_CONFIG_HOME", ".config")?.join("opencode/skills"),
            Self::Claude => folder("CLAUDE_CONFIG_DIR", ".claude")?.join("skills"),
            Self::Gemini => folder("GEMINI_CLI_HOME", "")?.join(".gemini/skills"),
            Self::Codex => folder("CODEX_HOME", ".codex")?.join("skills"),
        })
    }

    /// Writes the server's entry into the client's configuration.
    pub(crate) fn install_server(self, server: &Server, dry_run: bool) -> Result<InstallDocument, CliError> {
        let file = self.config()?;
        let before = read(&file)?;
        let entry = entry::put(self, &before, server).map_err(|why| {
            CliError::refused_try(
                ReasonCode::ConfigInvalid,
                format!("{}: {why}", file.display()),
                "mend the file, then run this again; nothing was written",
            )
        })?;
        let changed = entry.text != before;
        if changed && !dry_run {
            replace(&file, &entry.text)?;
        }
        let file = InstalledFile { file: file.display().to_string(), changed, entry: entry.shown };
        Ok(self.document(vec![file], dry_run))
    }

    /// Writes the skills into the client's folder of skills.
    pub(crate) fn install_skills(self, dry_run: bool) -> Result<InstallDocument, CliError> {
        let folder = self.skills()?;
        let file = |name: &str| folder.join(name).join("SKILL.md");
        // All are looked at before one is written.
        let there: Vec<String> =
            SKILLS.iter().map(|(name, _)| skill(&file(name), name)).collect::<Result<_, _>>()?;
        let mut files = Vec::new();
        for ((name, content), there) in SKILLS.into_iter().zip(there) {
            let file = file(name);
            let changed = there != content;
            if changed && !dry_run {
                replace(&file, content)?;
            }
            files.push(InstalledFile { file: file.display().to_string(), changed, entry: name.to_owned() });
        }
        Ok(self.document(files, dry_run))
    }

    fn document(self, files: Vec<InstalledFile>, dry_run: bool) -> InstallDocument {
        let schema = "dx-runner/install/1".to_owned();
        InstallDocument { schema, client: self.word().to_owned(), files, dry_run }
    }
}

/// `$NAME` when it is absolute, else the place below HOME.
fn folder(name: &str, below: &str) -> Result<PathBuf, CliError> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(name).or_else(|| Some(absolute("HOME")?.join(below))).ok_or_else(|| {
        CliError::refused_try(ReasonCode::InvalidArgument, "HOME is not set", "set HOME to your own folder")
    })
}

/// The text of a file; nothing when there is none.
fn read(file: &Path) -> Result<String, CliError> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => {
            let what = format!("read {}", file.display());
            Err(CliError::Io { what, reason: ReasonCode::ConfigUnreadable, source })
        }
    }
}

/// The text of our skill; nothing when there is none. What else has its name is refused.
fn skill(file: &Path, name: &str) -> Result<String, CliError> {
    let refused = |what: &str| {
        let message = format!("{} {what}", file.display());
        let next = "move it away, then run this again; nothing was written";
        Err(CliError::refused_try(ReasonCode::InvalidArgument, message, next))
    };
    // It would be written through, into whatever it leads to.
    if std::fs::symlink_metadata(file).is_ok_and(|meta| meta.is_symlink()) {
        return refused("is a link");
    }
    let text = read(file)?;
    let head = text.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---")).map(|(head, _)| head);
    if !text.is_empty() && !head.is_some_and(|head| head.lines().any(|line| line == format!("name: {name}")))
    {
        return refused("is not our skill");
    }
    Ok(text)
}

/// Replaces a file in one step, with the rights it had; a link stays one.
fn replace(file: &Path, text: &str) -> Result<(), CliError> {
    let failed = |source| CliError::Io {
        what: format!("write {}", file.display()),
        reason: ReasonCode::ConfigUnwritable,
        source,
    };
    let file = &std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let folder = file.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.dx-runner-{}", std::process::id()));
    let written = (|| {
        let mode = std::fs::metadata(file).map_or(0o600, |meta| meta.mode() & 0o7777);
        let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        new.write_all(text.as_bytes())?;
        new.set_permissions(std::fs::Permissions::from_mode(mode))?;
        new.sync_all()?;
        std::fs::rename(&beside, file)
    })();
    if written.is_err() {
        let _removed = std::fs::remove_file(&beside);
    }
    written.map_err(failed)
}
