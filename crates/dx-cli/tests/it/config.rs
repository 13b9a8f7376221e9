//! Configuration: layers and where values come from, refusals with their place, what a project may not do, safe files.

use crate::document;
use crate::world::{World, read, write};
use serde_json::Value;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// The user's configuration file of a test.
pub(crate) fn user_file(world: &World) -> PathBuf {
    world.env.path("xdg/config/dx-runner/config.toml")
}

/// Writes the user's file.
pub(crate) fn user(world: &World, text: &str) {
    let path = user_file(world);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    write(&path, text);
}

/// Writes the project's file.
pub(crate) fn project(world: &World, text: &str) {
    write(world.repo.join(".dx-runner.toml"), text);
}

/// Runs in the repository: its file is the project's.
pub(crate) fn here(world: &World, args: &[&str]) -> dx_testkit::Output {
    here_with(world, args, &[])
}

/// The same with variables.
pub(crate) fn here_with(world: &World, args: &[&str], env: &[(&str, &str)]) -> dx_testkit::Output {
    let mut command = world.env.product();
    command.args(args).current_dir(&world.repo).envs(env.iter().copied());
    world.env.run_command(command)
}

#[track_caller]
fn explain(world: &World, key: &str, env: &[(&str, &str)]) -> Value {
    let output = here_with(world, &["config", "explain", key, "--json"], env).assert_code(0);
    document(&world.env, "config-explain", &output.stdout)
}

/// What a start in the repository would be recorded with.
#[track_caller]
fn recorded(world: &World, id: &str, more: &[&str], env: &[(&str, &str)], key: &str) -> String {
    let args = world.start_args(id, more, &["exit:0"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    here_with(world, &args, env).assert_code(0);
    world.env.run(&["wait", "--beads", id]).assert_code(0);
    world.pairs(id, "meta")[key].clone()
}

#[test]
fn the_highest_layer_counts_and_each_is_told() {
    let world = World::new();
    let stall = |env: &[(&str, &str)]| {
        let told = explain(&world, "stall", env);
        (told["value"].as_str().unwrap().to_owned(), told["source"].as_str().unwrap().to_owned())
    };
    let is = |value: &str, source: &str| (value.to_owned(), source.to_owned());
    assert_eq!(stall(&[]), is("20m", "default"));
    user(&world, "# mine\nstall = \"21m\"\n");
    assert_eq!(stall(&[]), is("21m", "user"));
    project(&world, "stall = \"22m\"\n");
    assert_eq!(stall(&[]), is("22m", "project"));
    assert_eq!(stall(&[("DX_RUNNER_STALL_SEC", "1380")]), is("23m", "environment"));
    let told = explain(&world, "stall", &[("DX_RUNNER_STALL_SEC", "1380")]);
    let rows: Vec<String> = told["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| format!("{} {} {}", row["layer"], row["value"], row["effect"]).replace('"', ""))
        .collect();
    assert_eq!(
        rows,
        ["default 20m overridden", "user 21m overridden", "project 22m overridden", "environment 23m counts"]
    );
    assert_eq!(told["layers"][1]["at"], format!("{}:2:1", user_file(&world).display()));
    assert_eq!((&told["at"], &told["flag"]), (&"DX_RUNNER_STALL_SEC".into(), &"--stall-minutes".into()));
    // The same values hold for a start, and the flag counts most.
    assert_eq!(recorded(&world, "a", &[], &[], "stall_sec"), "1320");
    assert_eq!(recorded(&world, "b", &[], &[("DX_RUNNER_STALL_SEC", "1380")], "stall_sec"), "1380");
    assert_eq!(recorded(&world, "c", &["--stall-minutes", "24"], &[], "stall_sec"), "1440");
    // The text says the same.
    let text = here(&world, &["config", "explain", "stall"]).assert_code(0).stdout;
    assert!(text.starts_with("stall = \"22m\"\n  from: project, "), "{text}");
}

#[test]
fn show_lists_every_setting_with_its_source() {
    let world = World::new();
    user(&world, "max_runtime = \"3h\"\n[max_parallel]\nopencode = 2\n");
    let shown =
        document(&world.env, "config", &here(&world, &["config", "show", "--json"]).assert_code(0).stdout);
    let row = |key: &str| {
        shown["settings"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["key"] == key)
            .unwrap_or_else(|| panic!("{key}"))
    };
    assert_eq!((&row("max_runtime")["value"], &row("max_runtime")["source"]), (&"3h".into(), &"user".into()));
    assert_eq!(row("max_parallel.opencode")["value"], 2);
    assert_eq!((&row("max_parallel.exec")["value"], &row("model")["value"]), (&Value::Null, &Value::Null));
    assert_eq!(row("pty")["value"], false);
    let found: Vec<&Value> = shown["files"].as_array().unwrap().iter().map(|file| &file["found"]).collect();
    assert_eq!(found, [&Value::Bool(true), &Value::Bool(false)]);
    let text = here(&world, &["config"]).assert_code(0).stdout;
    assert!(text.contains("max_runtime") && text.contains("config.toml:1:1"), "{text}");
    let paths = here(&world, &["config", "path", "--json"]).assert_code(0).stdout;
    let paths = document(&world.env, "config-path", &paths);
    assert_eq!(paths["files"][1]["path"], world.repo.join(".dx-runner.toml").display().to_string());
    // Every setting is explained, and the explanation agrees.
    for row in shown["settings"].as_array().unwrap() {
        let told = explain(&world, row["key"].as_str().unwrap(), &[]);
        assert_eq!((&told["value"], &told["at"]), (&row["value"], &row["at"]));
    }
}

#[test]
fn a_project_only_tightens() {
    let world = World::new();
    user(&world, "max_runtime = \"2h\"\n");
    project(
        &world,
        "max_runtime = \"5h\"\nno_mutation_timeout = \"0\"\nallow_model_override = true\n\
         allowed_prefixes = [\"/\"]\nenv = [\"SSH_AUTH_SOCK\", \"LD_PRELOAD=x\"]\n[max_parallel]\nexec = 1\nopencode = 99\n",
    );
    let value = |key: &str| explain(&world, key, &[])["value"].clone();
    assert_eq!(value("max_runtime"), "2h");
    assert_eq!(value("no_mutation_timeout"), "30m");
    assert_eq!(value("allow_model_override"), false);
    assert_eq!(
        value("allowed_prefixes"),
        Value::Array(vec![world.env.allowed_root().display().to_string().into()])
    );
    assert_eq!(value("env"), Value::Array(Vec::new()));
    assert_eq!((value("max_parallel.exec"), value("max_parallel.opencode")), (1.into(), 6.into()));
    let told = explain(&world, "max_runtime", &[]);
    assert_eq!(
        (&told["layers"][2]["layer"], &told["layers"][2]["effect"]),
        (&"project".into(), &"refused".into())
    );
    assert!(told["layers"][2]["why"].as_str().unwrap().starts_with("looser than "), "{told}");
    let told = explain(&world, "env", &[]);
    assert_eq!(told["layers"][1]["why"], "not allowed: SSH_AUTH_SOCK, LD_PRELOAD=x");
    // And so it is for a start.
    assert_eq!(recorded(&world, "a", &[], &[("LD_PRELOAD", "")], "max_runtime_sec"), "7200");
    assert!(!world.pairs("a", "contract")["env_names"].contains("SSH_AUTH_SOCK"));

    // What it tightens holds against variables and options.
    project(&world, "max_runtime = \"30m\"\n");
    assert_eq!(
        recorded(&world, "b", &[], &[("DX_RUNNER_MAX_RUNTIME_MINUTES", "60")], "max_runtime_sec"),
        "1800"
    );
    assert_eq!(recorded(&world, "c", &["--max-runtime", "10m"], &[], "max_runtime_sec"), "600");
    let args = world.start_args("d", &["--json", "--max-runtime", "1h"], &["exit:0"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let refused = here(&world, &args).assert_code(22);
    let error = crate::world::error_of(&world.env, &refused);
    assert_eq!(error["reason_code"], "setting_not_allowed");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("--max-runtime \"1h\"") && message.contains(".dx-runner.toml:1:1"), "{error}");
    assert!(!world.view("d", "meta").exists());

    // Unless the user's own file allows more; and then nobody gets further.
    user(&world, "[allow]\nmax_runtime = \"4h\"\nenv = [\"LANGUAGE\"]\n");
    assert_eq!(recorded(&world, "e", &["--max-runtime", "1h"], &[], "max_runtime_sec"), "3600");
    project(&world, "max_runtime = \"5h\"\nenv = [\"LANGUAGE=de\", \"X=1\"]\n");
    assert_eq!(recorded(&world, "f", &[], &[], "max_runtime_sec"), "14400");
    let told = explain(&world, "max_runtime", &[]);
    let cut = told["layers"].as_array().unwrap().iter().find(|row| row["layer"] == "project").unwrap();
    assert_eq!((&cut["effect"], &told["source"]), (&"partly".into(), &"allow".into()));
    assert!(cut["why"].as_str().unwrap().contains("as far as [allow] goes"), "{cut}");
    assert!(world.pairs("f", "contract")["env_names"].split(',').any(|name| name == "LANGUAGE"));
    let args = world.start_args("g", &["--json", "--max-runtime", "0"], &["exit:0"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let error = crate::world::error_of(&world.env, &here(&world, &args).assert_code(22));
    assert!(error["message"].as_str().unwrap().contains("config.toml:2:1"), "{error}");
}

#[test]
fn the_project_is_the_main_checkout_and_never_a_jobs_worktree() {
    let world = World::new();
    project(&world, "stall = \"31m\"\n");
    let auto = |id: &str| {
        let agent = world.env.fake_agent().display().to_string();
        let write = "write:.dx-runner.toml:stall = \"99m\"\nallow_model_override = true\n";
        let args = [
            "start",
            "--beads",
            id,
            "--provider",
            "exec",
            "--worktree",
            "auto",
            "--",
            &agent,
            write,
            "exit:0",
        ];
        here(&world, &args).assert_code(0);
        world.env.run(&["wait", "--beads", id]).assert_code(0);
        world.pairs(id, "meta")
    };
    let first = auto("a");
    assert_eq!(first["stall_sec"], "1860");
    // The agent has changed the file in its worktree. The next run there, from there, does not read it.
    let worktree = Path::new(&first["worktree"]);
    assert!(read(worktree.join(".dx-runner.toml")).contains("99m"));
    let mut command = world.env.product();
    command.args(["start", "--beads", "a", "--provider", "exec", "--", "true"]).current_dir(worktree);
    world.env.run_command(command).assert_code(0);
    world.env.run(&["wait", "--beads", "a"]).assert_code(0);
    let second = world.pairs("a", "meta");
    assert_eq!((&second["worktree"], second["stall_sec"].as_str()), (&first["worktree"], "1860"));
}

#[test]
fn mistakes_name_their_place_and_what_was_meant() {
    let world = World::new();
    let error = |code: i32| {
        let args = world.start_args("x", &["--json"], &["exit:0"]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        crate::world::error_of(&world.env, &here(&world, &args).assert_code(code))
    };
    let file = user_file(&world).display().to_string();
    user(&world, "\n  max_runtme = \"1h\"\n");
    let found = error(64);
    assert_eq!(
        (&found["reason_code"], &found["message"], &found["next_action"]),
        (
            &"config_unknown_key".into(),
            &format!("{file}:2:3: unknown key `max_runtme`").into(),
            &"did you mean max_runtime?".into()
        )
    );
    user(&world, "max_runtime = 90\n");
    assert_eq!(error(64)["reason_code"], "config_invalid");
    user(&world, "max_runtime = \n");
    assert!(error(64)["message"].as_str().unwrap().starts_with(&format!("{file}:1:")));
    user(&world, "");
    project(&world, "[worktree]\nroot = \"/\"\n");
    let found = error(64);
    assert!(found["message"].as_str().unwrap().contains("may only stand in your own"), "{found}");
    project(&world, "");
    // Nothing was made, and a variable that is wrong is still told as before.
    assert!(!world.view("x", "meta").exists());
    let wrong = here_with(&world, &["config", "--json"], &[("DX_RUNNER_NO_OP_SEC", "soon")]).assert_code(64);
    let wrong = crate::world::error_of(&world.env, &wrong);
    assert_eq!(wrong["message"], "DX_RUNNER_NO_OP_SEC is `soon`, which is not a number");
    let none = world.error(64, &["config", "explain", "max-runtime"]);
    assert_eq!(none["next_action"], "did you mean max_runtime?");
    // Commands that only read records do not care.
    user(&world, "nonsense");
    world.env.run(&["status"]).assert_code(0);
    let doctor = here(&world, &["doctor", "--json"]).assert_code(1);
    let doctor = document(&world.env, "doctor", &doctor.stdout);
    let row = doctor["checks"].as_array().unwrap().iter().find(|row| row["name"] == "configuration").unwrap();
    assert_eq!(row["level"], "error");
    assert!(row["found"].as_str().unwrap().contains("config.toml:1:"), "{row}");
}

#[test]
fn files_are_read_safely() {
    let world = World::new();
    let error = |code: i32, reason: &str| {
        let found =
            crate::world::error_of(&world.env, &here(&world, &["config", "--json"]).assert_code(code));
        assert_eq!(found["reason_code"], reason, "{found}");
    };
    let mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    user(&world, "stall = \"1h\"\n");
    let (file, kept) = (user_file(&world), world.env.path("kept.toml"));
    // People keep such files in a repository and link them.
    std::fs::rename(&file, &kept).unwrap();
    symlink(&kept, &file).unwrap();
    assert_eq!(explain(&world, "stall", &[])["source"], "user");
    // A group of one's own is common: told by doctor, not refused. Everybody is refused.
    mode(&kept, 0o664);
    let doctor = here(&world, &["doctor", "--json"]).stdout;
    assert!(doctor.contains("its group can write it"), "{doctor}");
    mode(&kept, 0o666);
    error(22, "config_unsafe");
    mode(&kept, 0o600);
    write(&kept, [0x73, 0xff, 0xfe]);
    error(33, "config_unreadable");
    write(&kept, "#".repeat(300 << 10));
    error(33, "config_unreadable");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    error(22, "config_unsafe");
    std::fs::remove_dir(&file).unwrap();
    // A pipe in its place keeps nobody waiting.
    let made = world.env.command("mkfifo").arg(&file).status().unwrap();
    assert!(made.success());
    error(22, "config_unsafe");
    std::fs::remove_file(&file).unwrap();
    // A project's file is never a link: it would be read from wherever it points to.
    symlink(&kept, world.repo.join(".dx-runner.toml")).unwrap();
    error(22, "config_unsafe");
}

#[test]
fn another_file_takes_the_place_of_the_users() {
    let world = World::new();
    user(&world, "stall = \"21m\"\nmax_runtime = \"1h\"\n");
    let other = world.path("other.toml");
    write(&other, "stall = \"25m\"\n");
    let shown = here(&world, &["config", "--config", &other, "--json"]).assert_code(0).stdout;
    let shown = document(&world.env, "config", &shown);
    let row = |key: &str| {
        shown["settings"].as_array().unwrap().iter().find(|row| row["key"] == key).unwrap().clone()
    };
    assert_eq!((&row("stall")["value"], &row("max_runtime")["source"]), (&"25m".into(), &"default".into()));
    assert_eq!(recorded(&world, "a", &["--config", &other], &[], "stall_sec"), "1500");
    let none = world.path("none.toml");
    let missing = world.error(33, &["config", "--config", &none]);
    assert_eq!(missing["reason_code"], "config_unreadable");
}

#[test]
fn init_writes_a_file_that_says_nothing_yet_and_never_over_one() {
    let world = World::new();
    let made = here(&world, &["config", "init", "--json"]).assert_code(0).stdout;
    let made = document(&world.env, "config-path", &made);
    assert_eq!(made["written"], true);
    let file = user_file(&world);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = read(&file);
    assert!(text.contains("#max_runtime = \"2h\"") && text.contains("[allow]"), "{text}");
    assert_eq!(explain(&world, "max_runtime", &[])["source"], "default");
    write(&file, text.replace("#max_runtime = \"2h\"", "max_runtime = \"90m\""));
    assert_eq!(explain(&world, "max_runtime", &[])["value"], "1h30m");
    let again = world.error(32, &["config", "init"]);
    assert_eq!(again["reason_code"], "config_exists");
    assert!(read(&file).contains("90m"));
}

#[test]
fn places_caps_and_models_come_from_files_too() {
    let world = World::new();
    let (root, extra) = (world.path("trees"), world.path("extra"));
    std::fs::create_dir(&extra).unwrap();
    user(
        &world,
        &format!(
            "allowed_prefixes = [\"{extra}\"]\nprovider = \"exec\"\n[max_parallel]\nexec = 0\n\
             [worktree]\nroot = \"{root}\"\n"
        ),
    );
    // Nothing is named on the command line that the file names.
    let capped = world.error(26, &["start", "--worktree", &extra, "--", "true"]);
    assert_eq!(capped["reason_code"], "provider_concurrency_cap_exceeded");
    let rows =
        document(&world.env, "providers", &here(&world, &["providers", "--json"]).assert_code(0).stdout);
    assert_eq!(rows["providers"].as_array().unwrap().iter().find(|p| p["name"] == "exec").unwrap()["cap"], 0);
    // A variable counts more.
    let with = |args: &[&str]| here_with(&world, args, &[("DX_RUNNER_MAX_PARALLEL_DEFAULT", "3")]);
    with(&["start", "--beads", "a", "--worktree", &extra, "--", "true"]).assert_code(0);
    let mut command = world.env.product();
    command.args(["start", "--beads", "b", "--worktree", "auto", "--", "true"]).current_dir(&world.repo);
    command.env("DX_RUNNER_MAX_PARALLEL_EXEC", "3").env_remove("DX_RUNNER_WORKTREE_ROOT");
    world.env.run_command(command).assert_code(0);
    world.env.run(&["wait", "--beads", "a", "b"]).assert_code(0);
    assert!(world.pairs("b", "meta")["worktree"].starts_with(&root), "{:?}", world.pairs("b", "meta"));
    // Without any provider that is told.
    user(&world, "");
    let none = world.error(64, &["start", "--worktree", &extra, "--", "true"]);
    assert!(none["message"].as_str().unwrap().contains("no provider was named"), "{none}");
}

#[test]
fn a_project_demands_the_sandbox_and_cannot_open_it() {
    let world = World::new();
    let value = |key: &str| explain(&world, key, &[])["value"].clone();
    assert_eq!(value("sandbox"), "auto");
    project(&world, "sandbox = \"off\"\nsandbox_write = [\"/\"]\nrequire_commit = true\n");
    assert_eq!((value("sandbox"), value("require_commit")), ("auto".into(), true.into()));
    assert!(!value("sandbox_write").as_array().unwrap().contains(&"/".into()), "{}", value("sandbox_write"));
    user(&world, "sandbox = \"off\"\n");
    project(&world, "sandbox = \"strict\"\n");
    assert_eq!(value("sandbox"), "strict");
    let args = world.start_args("a", &["--json", "--sandbox", "off"], &["exit:0"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let error = crate::world::error_of(&world.env, &here(&world, &args).assert_code(22));
    assert_eq!(error["reason_code"], "setting_not_allowed");
    // Without the project's word the user's own file turns it off, and the record says so.
    std::fs::remove_file(world.repo.join(".dx-runner.toml")).unwrap();
    let args = world.start_args("b", &["--json"], &["exit:0"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    here(&world, &args).assert_code(0);
    world.env.run(&["wait", "--beads", "b"]).assert_code(0);
    let text = world.env.run(&["check", "--beads", "b", "--explain"]).stdout;
    assert!(text.contains("sandbox: off"), "{text}");
}
