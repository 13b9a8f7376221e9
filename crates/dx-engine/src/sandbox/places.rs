//! The two lists of a sandbox: caches of build tools, which may be written, and stores of credentials, which may not be
//! read. Both are in the guide, and both can be replaced by the environment.
//!
//! Must never: list a folder that holds programs or settings that somebody runs or obeys outside of a sandbox (such as
//! `~/.cargo` as a whole), nor one that a tool in the first list cannot work without.

use super::{make, variable};
use crate::environment::{dir_in, paths};
use crate::error::EngineError;
use std::ffi::OsString;
use std::path::PathBuf;

/// Replaces the list of caches.
const CACHES: &str = "DX_RUNNER_SANDBOX_CACHES";
/// Replaces the list of what is hidden.
const HIDDEN: &str = "DX_RUNNER_SANDBOX_HIDE";

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

/// A cache: the program whose it is, the variable that moves it, its usual place, and the parts of it that count (folders;
/// those that begin with `=` are files).
type Row = (&'static str, &'static str, Base, &'static str, &'static [&'static str]);

const WHOLE: &[&str] = &[""];

#[rustfmt::skip]
const TOOLS: &[Row] = &[
    ("cargo", "CARGO_HOME", Home, ".cargo", &["registry", "git", "=.package-cache", "=.package-cache-mutate", "=.global-cache"]),
    ("npm", "npm_config_cache", Home, ".npm", WHOLE),
    ("pnpm", "", Data, "pnpm/store", WHOLE),
    ("pnpm", "", Cache, "pnpm", WHOLE),
    ("yarn", "YARN_CACHE_FOLDER", Cache, "yarn", WHOLE),
    ("yarn", "", Home, ".yarn/berry/cache", WHOLE),
    ("bun", "BUN_INSTALL_CACHE_DIR", Home, ".bun/install/cache", WHOLE),
    ("deno", "DENO_DIR", Cache, "deno", WHOLE),
    ("pip", "PIP_CACHE_DIR", Cache, "pip", WHOLE),
    ("uv", "UV_CACHE_DIR", Cache, "uv", WHOLE),
    ("poetry", "", Cache, "pypoetry", WHOLE),
    ("pre-commit", "PRE_COMMIT_HOME", Cache, "pre-commit", WHOLE),
    ("go", "GOCACHE", Cache, "go-build", WHOLE),
    ("go", "GOMODCACHE", Home, "go/pkg/mod", WHOLE),
    ("mvn", "", Home, ".m2/repository", WHOLE),
    ("gradle", "GRADLE_USER_HOME", Home, ".gradle", &["caches", "daemon", "native", "notifications", "workers"]),
    ("dotnet", "NUGET_PACKAGES", Home, ".nuget/packages", WHOLE),
    ("composer", "COMPOSER_CACHE_DIR", Cache, "composer", WHOLE),
    ("bundle", "", Home, ".bundle/cache", WHOLE),
    ("ccache", "CCACHE_DIR", Cache, "ccache", WHOLE),
    ("sccache", "SCCACHE_DIR", Cache, "sccache", WHOLE),
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
];

/// The caches that this environment may write. One that is not there is made when its program is.
pub(super) fn caches(env: &[(OsString, OsString)], dry: bool) -> Result<Vec<PathBuf>, EngineError> {
    if let Some(paths) = paths(CACHES)? {
        return Ok(paths);
    }
    let mut found = Vec::new();
    for (program, moved, base, below, parts) in TOOLS {
        let place = variable(env, moved).map(PathBuf::from).filter(|place| place.is_absolute());
        let Some(place) = place.or_else(|| Some(base.dir(env)?.join(below))) else { continue };
        for part in *parts {
            let (path, is_file) = match part.strip_prefix('=') {
                Some(file) => (place.join(file), true),
                None => (place.join(part), false),
            };
            if !path.exists() {
                if dry || !is_on_path(env, program) {
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
    Ok(found)
}

/// The credentials that this provider's agent has nothing to do with.
pub(super) fn hidden(env: &[(OsString, OsString)], provider: &str) -> Result<Vec<PathBuf>, EngineError> {
    if let Some(paths) = paths(HIDDEN)? {
        return Ok(paths);
    }
    let others = STORES.iter().filter(|(_, _, owner)| *owner != provider);
    Ok(others.filter_map(|(base, below, _)| Some(base.dir(env)?.join(below))).collect())
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
        let of = |provider| hidden(&env, provider).unwrap();
        assert!(of("exec").contains(&"/d/opencode/auth.json".into()));
        assert!(!of("opencode").contains(&"/d/opencode/auth.json".into()));
        for provider in ["exec", "opencode"] {
            assert!(
                of(provider).contains(&"/h/.ssh".into()) && of(provider).contains(&"/h/.config/gh".into())
            );
        }
    }

    #[test]
    fn caches_follow_their_variables_and_are_made_for_programs_that_are_there() {
        let tmp = tempfile::tempdir().unwrap();
        let at = |name: &str| tmp.path().join(name);
        std::fs::create_dir_all(at("bin")).unwrap();
        std::fs::create_dir_all(at("home/.npm")).unwrap();
        std::fs::write(at("bin/cargo"), "").unwrap();
        let (home, bin, cargo) = (at("home"), at("bin"), at("cargo"));
        let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
        let env = env(&[("HOME", &text(&home)), ("PATH", &text(&bin)), ("CARGO_HOME", &text(&cargo))]);
        assert_eq!(caches(&env, true).unwrap(), [at("home/.npm")], "nothing is made to be looked at");
        let found = caches(&env, false).unwrap();
        assert!(found.contains(&at("cargo/registry")) && found.contains(&at("cargo/.package-cache")));
        assert!(at("cargo/git").is_dir() && at("cargo/.global-cache").is_file());
        assert!(!at("home/.cache").exists(), "no program, no cache");
        assert!(!found.contains(&at("cargo")), "its programs and settings are not writable");
    }
}
