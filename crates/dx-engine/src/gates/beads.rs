//! The Beads gate: the external repository is the right one, `bd` answers in this repository, and it uses this repository's
//! store. Asked for only by its command, by `--beads-gate` or by a profile: who has no Beads is never stopped by it.
//!
//! Must never: write, unless a write probe was asked for.

use crate::Engine;
use crate::api::BeadsQuery;
use crate::beads::{Bd, PROGRAM, Refusal};
use crate::environment;
use crate::error::EngineError;
use crate::git::{self, Repository};
use crate::settings::{BEADS_REMOTE, BEADS_REPO_PATH, Layers};
use crate::start::configure::project_of;
use crate::worktree::main_checkout;
use dx_protocol::{Gate, GateDocument, GateFacts, GateReport, ReasonCode};
use serde_json::Value;
use std::path::{Path, PathBuf};

const FOLDER: &str = ".beads";
/// What is not known.
const NONE: &str = "-";

impl Engine {
    /// Whether Beads can be used in a repository.
    pub fn beads_gate(&self, query: &BeadsQuery) -> Result<GateDocument, EngineError> {
        let repo = std::path::absolute(&query.repo).unwrap_or_else(|_| query.repo.clone());
        let settings = self.layers(project_of(&repo).as_deref(), None)?;
        let Ok(repo) = repo.canonicalize() else {
            let report = GateReport::new(false, ReasonCode::WorktreeMissing, repo.display().to_string());
            return Ok(GateDocument::new(Gate::Beads, report, GateFacts::default()));
        };
        ask(&settings, &repo, query.probe.as_deref(), query.write_probe)
    }
}

/// What is asked.
struct Wanted<'a> {
    settings: &'a Layers,
    /// What the address of the external repository's origin must contain.
    remote: String,
    /// An issue that must be there.
    probe: Option<&'a str>,
    /// Whether a comment is to be written to it.
    write_probe: bool,
}

/// The gate in a repository, at a start and by itself.
pub(crate) fn ask(
    settings: &Layers,
    repo: &Path,
    probe: Option<&str>,
    write_probe: bool,
) -> Result<GateDocument, EngineError> {
    let external = external(settings)?;
    let mut facts = GateFacts {
        worktree: Some(repo.display().to_string()),
        db_status: Some(NONE.to_owned()),
        repo_id_local: Some(NONE.to_owned()),
        repo_id_db: Some(NONE.to_owned()),
        external_repo: Some(external.display().to_string()),
        external_remote: Some(NONE.to_owned()),
        ..GateFacts::default()
    };
    let wanted =
        Wanted { settings, remote: settings.text(&BEADS_REMOTE)?.unwrap_or_default(), probe, write_probe };
    let looked = look(repo, &external, &wanted, &mut facts);
    let report = match looked {
        Ok(details) => GateReport::new(true, ReasonCode::BeadsOk, details),
        Err((reason, details)) => GateReport::new(false, reason, details),
    };
    Ok(GateDocument::new(Gate::Beads, report, facts))
}

fn external(settings: &Layers) -> Result<PathBuf, EngineError> {
    let configured = settings.text(&BEADS_REPO_PATH)?.map(PathBuf::from);
    configured.or_else(|| environment::dir("", "bd")).ok_or(EngineError::NoHome)
}

fn look(repo: &Path, external: &Path, wanted: &Wanted<'_>, facts: &mut GateFacts) -> Result<String, Refusal> {
    let bd = Bd::find(wanted.settings, repo)?;
    let there =
        Repository::find(external).filter(|found| found.work_tree == external || found.git_dir == external);
    let Some(external_repository) = there else {
        let details = format!("{} is no git repository", external.display());
        return Err((ReasonCode::BeadsExternalRepoMissing, details));
    };
    let remote =
        git::line(&external_repository.git(&["config", "--get", "remote.origin.url"]).unwrap_or_default());
    facts.external_remote = Some(if remote.is_empty() { NONE.to_owned() } else { without_user(&remote) });
    if !remote.contains(&wanted.remote) {
        let shown = without_user(&remote);
        let details =
            format!("the origin of {} is `{shown}`, without `{}`", external.display(), wanted.remote);
        return Err((ReasonCode::BeadsExternalRemoteMismatch, details));
    }
    let status = bd.call(&["stats", "--json"]);
    facts.db_status = Some(match &status {
        Ok(_) => "ok".to_owned(),
        Err((ReasonCode::BeadsTimeout, _)) => "timeout".to_owned(),
        Err(_) => "error".to_owned(),
    });
    status?;
    compare_stores(&bd, repo, external, facts)?;
    if let Some(id) = wanted.probe {
        let failed = |(reason, details): Refusal, other: ReasonCode| match reason {
            ReasonCode::BeadsTimeout => (reason, details),
            _ => (other, details),
        };
        let shown =
            bd.call(&["show", id, "--json"]).map_err(|e| failed(e, ReasonCode::BeadsProbeNotFound))?;
        if !names(&shown, id) {
            let details = format!("`{PROGRAM} show {id}` shows no such issue");
            return Err((ReasonCode::BeadsProbeNotFound, details));
        }
        if wanted.write_probe {
            let text = "dx-runner: write probe";
            bd.call(&["comments", "add", id, text, "--json"])
                .map_err(|e| failed(e, ReasonCode::BeadsWriteBlocked))?;
        }
    }
    Ok(format!("`{PROGRAM}` can be used in {}", repo.display()))
}

/// `bd` must use a store of this repository, of its main checkout, or of the external repository. By the id of the store
/// where both sides have one, else by its place.
fn compare_stores(bd: &Bd, repo: &Path, external: &Path, facts: &mut GateFacts) -> Result<(), Refusal> {
    let info = match bd.call(&["info", "--json"]) {
        Ok(info) => info,
        Err(timeout @ (ReasonCode::BeadsTimeout, _)) => return Err(timeout),
        // A `bd` that does not tell where its store is.
        Err(_) => Value::Null,
    };
    let main = Repository::find(repo).and_then(|repository| main_checkout(&repository));
    let near = repo.ancestors().map(|dir| dir.join(FOLDER)).find(|dir| dir.is_dir());
    let places = near.into_iter().chain(main.map(|main| main.join(FOLDER))).chain([external.join(FOLDER)]);
    let stores: Vec<PathBuf> = places.filter_map(|dir| dir.canonicalize().ok()).collect();
    let own = stores.iter().find(|store| !store.starts_with(external)).or(stores.first());
    let local_id = own.and_then(|store| id_of(store));
    let db_id =
        ["/repo_id", "/config/repo_id"].iter().find_map(|at| info.pointer(at)?.as_str().map(str::to_owned));
    let folder = info.pointer("/beads_dir").and_then(Value::as_str).map(PathBuf::from);
    let folder =
        folder.or_else(|| Some(Path::new(info.pointer("/database_path")?.as_str()?).parent()?.to_owned()));
    let used = folder.map(|folder| folder.canonicalize().unwrap_or(folder));
    let word = |id: &Option<String>, place: Option<&PathBuf>| {
        id.clone().or_else(|| place.map(|p| p.display().to_string())).unwrap_or_else(|| NONE.to_owned())
    };
    facts.repo_id_local = Some(word(&local_id, own));
    facts.repo_id_db = Some(word(&db_id, used.as_ref()));
    let same = match (&local_id, &db_id, &used) {
        (Some(local), Some(db), _) => local == db,
        (_, _, Some(used)) if !stores.is_empty() => stores.contains(used),
        _ => true,
    };
    if same {
        return Ok(());
    }
    let details = format!(
        "the repository's store is {}, and `{PROGRAM}` uses {}",
        word(&local_id, own),
        word(&db_id, used.as_ref())
    );
    Err((ReasonCode::BeadsRepoMismatch, details))
}

/// `repo_id` of a store's own files.
fn id_of(store: &Path) -> Option<String> {
    let read =
        |name: &str| String::from_utf8(dx_jobdir::read_bounded(&store.join(name), 64 << 10).ok()?).ok();
    let json = read("metadata.json").and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let from_json = json.and_then(|json| json.get("repo_id")?.as_str().map(str::to_owned));
    let line = |text: String| {
        let value = text.lines().find_map(|line| {
            let rest = line.trim().strip_prefix("repo_id")?.trim_start();
            rest.strip_prefix([':', '=']).map(|value| value.trim().trim_matches(['"', '\'']).to_owned())
        })?;
        (!value.is_empty()).then_some(value)
    };
    from_json.or_else(|| ["config.yaml", "config"].iter().find_map(|name| line(read(name)?)))
}

/// Whether an answer is about this issue.
fn names(shown: &Value, id: &str) -> bool {
    match shown {
        Value::Array(list) => list.iter().any(|issue| names(issue, id)),
        issue => issue.get("id").and_then(Value::as_str) == Some(id),
    }
}

/// An address without the user and password in it.
fn without_user(remote: &str) -> String {
    match remote.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
            let host = host.rsplit('@').next().unwrap_or(host);
            path.map_or_else(|| format!("{scheme}://{host}"), |path| format!("{scheme}://{host}/{path}"))
        }
        None => remote.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_without_their_user() {
        for (remote, shown) in [
            ("https://me:secret@host/a/b.git", "https://host/a/b.git"),
            ("https://host/a@b", "https://host/a@b"),
            ("ssh://git@host:22/a", "ssh://host:22/a"),
            ("git@host:a/b", "git@host:a/b"),
            ("/bare", "/bare"),
        ] {
            assert_eq!(without_user(remote), shown);
        }
    }

    #[test]
    fn a_store_tells_its_id_in_several_ways() {
        let tmp = tempfile::tempdir().unwrap();
        assert_eq!(id_of(tmp.path()), None);
        std::fs::write(tmp.path().join("config.yaml"), "# repo_id: no\nissue_prefix: bd\nrepo_id: \"r1\"\n")
            .unwrap();
        assert_eq!(id_of(tmp.path()).as_deref(), Some("r1"));
        std::fs::write(tmp.path().join("metadata.json"), "{\"repo_id\":\"r2\"}").unwrap();
        assert_eq!(id_of(tmp.path()).as_deref(), Some("r2"));
    }
}
