//! The build that is meant to be installed: both programs linked with the C library in them, at fixed addresses.
//!
//! For: people who install or pack the program; the benchmarks, which measure what people get.
//! Called by: `main`, `bench`.
//! Must never: change how `cargo build` builds. Where the static C library is missing it says so and builds as usual.
//!
//! Two small programs live beside every job. Linked dynamically each of them dirties pages of the loader, of the C
//! library and of its own relocated tables before it has done anything; static and at fixed addresses it does not, and it
//! starts sooner ([ADR 9](../../docs/adr/0009-a-static-build-for-installing.md)).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;
use crate::workspace::{cargo, output};

const STATIC: &str = "-C target-feature=+crt-static -C relocation-model=static";

/// `cargo xtask dist`: builds and tells where the programs are.
pub(crate) fn run() -> Result<(), Failure> {
    let runner = build()?;
    println!("{}\n{}", runner.display(), runner.with_file_name("dx-monitor").display());
    Ok(())
}

/// Builds both programs; gives the path of `dx-runner`, beside which `dx-monitor` is.
pub(crate) fn build() -> Result<PathBuf, Failure> {
    let mut command = cargo();
    command.args(["build", "--profile", "dist", "--locked", "-p", "dx-runner"]);
    match static_target()? {
        Ok(target) => {
            println!("building the programs to install, linked statically");
            command.args(["--target", &target]).env("RUSTFLAGS", STATIC);
        }
        Err(why) => println!("building the programs to install, linked dynamically: {why}"),
    }
    let said = output(command.args(["--message-format", "json-render-diagnostics"]))?;
    executables(&said)
        .find(|path| path.file_name().is_some_and(|name| name == "dx-runner"))
        .map(Path::to_owned)
        .ok_or_else(|| "cargo build named no executable dx-runner".to_owned())
}

/// This machine's target when it can be linked statically; otherwise why not.
fn static_target() -> Result<Result<String, String>, Failure> {
    let said = output(Command::new("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    if !host.ends_with("-linux-gnu") {
        return Ok(Err(format!("{host} is not tried")));
    }
    if links_statically() {
        Ok(Ok(host.to_owned()))
    } else {
        Ok(Err("the C library's static part is missing (Debian: libc6-dev, Fedora: glibc-static)".to_owned()))
    }
}

/// Whether the C compiler can make a static program.
fn links_statically() -> bool {
    let into = std::env::temp_dir().join(format!("dx-static-{}", std::process::id()));
    let tried = (|| {
        let mut cc = Command::new("cc")
            .args(["-static", "-x", "c", "-", "-o"])
            .arg(&into)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        cc.stdin.take()?.write_all(b"int main(void) { return 0; }\n").ok()?;
        cc.wait().ok()
    })();
    let _removed = std::fs::remove_file(&into);
    tried.is_some_and(|status| status.success())
}

fn executables(messages: &str) -> impl Iterator<Item = &Path> {
    messages
        .lines()
        .filter_map(|line| line.split_once("\"executable\":\"")?.1.split('"').next())
        .map(Path::new)
}

#[cfg(test)]
mod tests {
    use super::executables;

    #[test]
    fn the_binary_is_found_in_what_cargo_says() {
        let said =
            "{\"executable\":null}\n{\"x\":1,\"executable\":\"/t/release/dx-runner\",\"fresh\":true}\n";
        assert_eq!(executables(said).next().and_then(|p| p.to_str()), Some("/t/release/dx-runner"));
    }
}
