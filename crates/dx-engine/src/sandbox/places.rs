//! The two lists of a sandbox: caches of build tools, which may be written, and stores of credentials, which may not be
//! read. Both are in the guide, and both can be replaced by the configuration.
//!
//! Must never: list a folder that holds programs or settings that somebody runs or obeys outside of a sandbox (such as
//! `~/.cargo` as a whole), nor one that a tool in the first list cannot work without.

use super::{make, variable};
use crate::environment::dir_in;
use std::cell::LazyCell;
use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where something is looked for.
#[derive(Debug, Clone, Copy)]
enum Base {
    Home,
    Config,
    Data,
    Cache,
}

impl Base {
    fn dir(self, env: &[(OsString, OsString)]) -> Option<PathBuf> {
        match self {
            Self::Home => dir_in(env, "", "").map(|home| home.components().collect()),
            Self::Config => dir_in(env, "XDG_CONFIG_HOME", ".config"),
            Self::Data => dir_in(env, "XDG_DATA_HOME", ".local/share"),
            Self::Cache => dir_in(env, "XDG_CACHE_HOME", ".cache"),
        }
    }
}

use Base::{Cache, Config, Data, Home};

/// A cache: the program whose it is, files of a project for it (`*` in front stands for any text), the variable that moves
/// it, its usual place, and the parts of it that count (folders; those that begin with `=` are files).
type Row = (&'static str, &'static [&'static str], &'static str, Base, &'static str, &'static [&'static str]);

const WHOLE: &[&str] = &[""];

#[rustfmt::skip]
const TOOLS: &[Row] = &[
    ("cargo", &["Cargo.toml"], "CARGO_HOME", Home, ".cargo", &["registry", "git", "=.package-cache", "=.package-cache-mutate", "=.global-cache"]),
    ("npm", &["package.json"], "npm_config_cache", Home, ".npm", WHOLE),
    ("pnpm", &["pnpm-lock.yaml"], "", Data, "pnpm/store", WHOLE),
    ("pnpm", &["pnpm-lock.yaml"], "", Cache, "pnpm", WHOLE),
    ("yarn", &["yarn.lock"], "YARN_CACHE_FOLDER", Cache, "yarn", WHOLE),
    ("yarn", &["yarn.lock"], "", Home, ".yarn/berry/cache", WHOLE),
    ("bun", &["bun.lock", "bun.lockb"], "BUN_INSTALL_CACHE_DIR", Home, ".bun/install/cache", WHOLE),
    ("deno", &["deno.json", "deno.jsonc", "deno.lock"], "DENO_DIR", Cache, "deno", WHOLE),
    ("pip", &["requirements.txt", "pyproject.toml", "setup.py"], "PIP_CACHE_DIR", Cache, "pip", WHOLE),
    ("uv", &["uv.lock", "pyproject.toml"], "UV_CACHE_DIR", Cache, "uv", WHOLE),
    ("poetry", &["poetry.lock"], "", Cache, "pypoetry", WHOLE),
    ("pre-commit", &[".pre-commit-config.yaml"], "PRE_COMMIT_HOME", Cache, "pre-commit", WHOLE),
    ("go", &["go.mod"], "GOCACHE", Cache, "go-build", WHOLE),
    ("go", &["go.mod"], "GOMODCACHE", Home, "go/pkg/mod", WHOLE),
    ("mvn", &["pom.xml"], "", Home, ".m2/repository", WHOLE),
    ("gradle", &["build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts"], "GRADLE_USER_HOME", Home, ".gradle", &["caches", "daemon", "native", "notifications", "workers"]),
    ("dotnet", &["*.csproj", "*.fsproj", "*.sln"], "NUGET_PACKAGES", Home, ".nuget/packages", WHOLE),
    ("composer", &["composer.json"], "COMPOSER_CACHE_DIR", Cache, "composer", WHOLE),
    ("bundle", &["Gemfile"], "", Home, ".bundle/cache", WHOLE),
    ("ccache", &["CMakeLists.txt", "Makefile", "configure"], "CCACHE_DIR", Cache, "ccache", WHOLE),
    ("sccache", &["Cargo.toml", "CMakeLists.txt"], "SCCACHE_DIR", Cache, "sccache", WHOLE),
];

/// Stores of credentials: place, and the provider that needs it.
#[rustfmt::skip]
const STORES: &[(Base, &str, &str)] = &[
    (Home, ".ssh", ""), (Home, ".gnupg", ""), (Home, ".password-store", ""), (Home, ".netrc", ""),
    (Home, ".git-credentials", ""), (Config, "git/credentials", ""),
    (Config, "gh", ""), (Config, "glab-cli", ""), (Config, "hub", ""),
    (Home, ".aws", ""), (Home, ".azure", ""), (Config, "gcloud", ""), (Home, ".boto", ""), (Home, ".s3cfg", ""),
    (Home, ".oci", ""), (Config, "doctl", ""), (Config, "hcloud", ""), (Config, "rclone", ""),
    (Home, ".kube", ""), (Home, ".docker/config.json", ""), (Config, "containers/auth.json", ""),
    (Home, ".vault-token", ""), (Home, ".terraform.d/credentials.tfrc.json", ""), (Config, "op", ""), (Config, "sops", ""),
    (Home, ".cargo/credentials.toml", ""), (Home, ".cargo/credentials", ""), (Home, ".pypirc", ""), (Home, ".gem/credentials", ""),
    (Home, ".pgpass", ""), (Home, ".my.cnf", ""),
    (Data, "keyrings", ""), (Data, "kwalletd", ""),
    (Home, ".mozilla", ""), (Home, ".thunderbird", ""), (Config, "google-chrome", ""), (Config, "chromium", ""),
    (Config, "BraveSoftware", ""), (Config, "microsoft-edge", ""),
    (Data, "opencode/auth.json", "opencode"), (Home, ".claude/.credentials.json", "claude-code"),
    (Home, ".codex/auth.json", "codex"), (Home, ".gemini/oauth_creds.json", "gemini"),
    (Home, ".gemini/gemini-credentials.json", "gemini"), (Home, ".gemini/.env", "gemini"),
];

/// Folders below the worktree in which projects are looked for.
const DEPTH: usize = 3;
/// No more entries of a worktree are looked at.
const MOST_ENTRIES: usize = 5_000;

/// The caches that this environment may write. One that is not there is made when its program is, and the worktree holds a
/// project for it.
pub(super) fn caches(env: &[(OsString, OsString)], worktree: &Path, dry: bool) -> Vec<PathBuf> {
    let names = LazyCell::new(|| names_in(worktree));
    let is_used = |marks: &[&str]| {
        marks.iter().any(|mark| match mark.strip_prefix('*') {
            Some(end) => names.iter().any(|name| name.ends_with(end)),
            None => names.contains(*mark),
        })
    };
    let mut found = Vec::new();
    for (program, marks, moved, base, below, parts) in TOOLS {
        let place = variable(env, moved).map(PathBuf::from).filter(|place| place.is_absolute());
        let Some(place) = place.or_else(|| Some(base.dir(env)?.join(below))) else { continue };
        for part in *parts {
            let (path, is_file) = match part.strip_prefix('=') {
                Some(file) => (place.join(file), true),
                None => (place.join(part), false),
            };
            if !path.exists() {
                if dry || !is_used(marks) || !is_on_path(env, program) {
                    continue;
                }
                if is_file {
                    let _made = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
                } else {
                    make(&path);
                }
            }
            found.push(path);
        }
    }
    found
}

/// The credentials that this provider's agent has nothing to do with.
pub(super) fn hidden(env: &[(OsString, OsString)], provider: &str) -> Vec<PathBuf> {
    let others = STORES.iter().filter(|(_, _, owner)| *owner != provider);
    others.filter_map(|(base, below, _)| Some(base.dir(env)?.join(below))).collect()
}

/// Names of files at the top of a worktree and some folders below, without what tools have put there.
fn names_in(worktree: &Path) -> HashSet<String> {
    const NOT_OURS: [&str; 5] = [".git", "node_modules", "target", "vendor", ".venv"];
    let (mut names, mut folders, mut seen) = (HashSet::new(), vec![(worktree.to_owned(), 0)], 0);
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            seen += 1;
            if seen > MOST_ENTRIES {
                return names;
            }
            let Ok(name) = entry.file_name().into_string() else { continue };
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => {
                    if depth < DEPTH && !NOT_OURS.contains(&name.as_str()) {
                        // The nearest ones first: they go to the end of the line.
                        folders.insert(0, (entry.path(), depth + 1));
                    }
                }
                _ => {
                    names.insert(name);
                }
            }
        }
    }
    names
}

/// Whether the agent would find this program.
fn is_on_path(env: &[(OsString, OsString)], program: &str) -> bool {
    let Some(path) = variable(env, "PATH") else { return false };
    std::env::split_paths(path).any(|dir| dir.is_absolute() && dir.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn a_providers_own_store_is_not_hidden_from_it() {
        let env = env(&[("HOME", "/h"), ("XDG_DATA_HOME", "/d")]);
        let of = |provider| hidden(&env, provider);
        assert!(of("exec").contains(&"/d/opencode/auth.json".into()));
        assert!(!of("opencode").contains(&"/d/opencode/auth.json".into()));
        for provider in ["exec", "opencode"] {
            assert!(
                of(provider).contains(&"/h/.ssh".into()) && of(provider).contains(&"/h/.config/gh".into())
            );
        }
    }

    #[test]
    fn caches_follow_their_variables_and_are_made_for_projects_whose_programs_are_there() {
        let tmp = tempfile::tempdir().unwrap();
        let at = |name: &str| tmp.path().join(name);
        std::fs::create_dir_all(at("bin")).unwrap();
        std::fs::create_dir_all(at("home/.npm")).unwrap();
        std::fs::write(at("bin/cargo"), "").unwrap();
        let (home, bin, cargo) = (at("home"), at("bin"), at("cargo"));
        let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
        let env = env(&[("HOME", &text(&home)), ("PATH", &text(&bin)), ("CARGO_HOME", &text(&cargo))]);
        let project = at("project");
        std::fs::create_dir_all(project.join("node_modules/x")).unwrap();
        std::fs::create_dir_all(project.join("deep/er")).unwrap();
        std::fs::write(project.join("node_modules/x/Cargo.toml"), "").unwrap();
        let caches = |dry| caches(&env, &project, dry);
        assert_eq!(caches(false), [at("home/.npm")], "no project, no cache");
        std::fs::write(project.join("deep/er/Cargo.toml"), "").unwrap();
        assert_eq!(caches(true), [at("home/.npm")], "nothing is made to be looked at");
        let found = caches(false);
        assert!(found.contains(&at("cargo/registry")) && found.contains(&at("cargo/.package-cache")));
        assert!(at("cargo/git").is_dir() && at("cargo/.global-cache").is_file());
        assert!(!at("home/.cache").exists(), "no program, no cache");
        assert!(!found.contains(&at("cargo")), "its programs and settings are not writable");
    }
}
