//! What a word of the tables of health stands for: an action of the fake agent, mostly a line in the language of an agent.
//!
//! For: `cases`. Must never: know what is expected of a case.

use std::path::Path;
use std::time::UNIX_EPOCH;

/// All actions of a script, repetitions written out.
pub(crate) fn actions(agent: &str, script: &str, begun: &Path) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = script;
    while let Some((times, from)) = rest.split_once("*(") {
        let (before, times) = times.rsplit_once(' ').unwrap_or(("", times));
        let (inner, after) = from.split_once(')').unwrap();
        words.extend(before.split_whitespace());
        (0..times.parse().unwrap()).for_each(|_: usize| words.extend(inner.split_whitespace()));
        rest = after;
    }
    words.extend(rest.split_whitespace());
    // From the end, for what `below` runs beside is all that comes after it.
    let mut all: Vec<String> = Vec::new();
    for (index, word) in words.iter().enumerate().rev() {
        match word.split_once(':') {
            Some(("sh", script)) => all = vec![format!("exec:sh\n-c\n{}", shell(script))],
            Some(("below", script)) => {
                assert!(all.iter().all(|action| !action.contains('\n')), "{script} has a script beside it");
                let beside = format!("{} & exec {} \"$@\"", shell(script), fake_agent());
                all = vec![format!("exec:sh\n-c\n{beside}\nsh\n{}", all.join("\n"))];
            }
            _ => all.insert(0, action(agent, word, begun, index)),
        }
    }
    all
}

fn fake_agent() -> String {
    dx_testkit::fake_agent().display().to_string()
}

fn shell(script: &str) -> String {
    script.replace('_', " ").replace("FAKE", &fake_agent())
}

fn action(agent: &str, word: &str, begun: &Path, index: usize) -> String {
    let (name, argument) = word.split_once(':').unwrap_or((word, ""));
    let line = match (name, agent) {
        ("@begun", _) => Some(format!("touch:{}", begun.display())),
        ("ask", _) => Some("exec:sh\n-c\nread answer".into()),
        (_, "claude-code") => claude_code(name, argument, index),
        (_, "opencode") => opencode(name),
        (_, "codex") => codex(name, index),
        (_, "gemini") => gemini(name, argument),
        _ => None,
    };
    line.unwrap_or_else(|| {
        assert!(!word.starts_with('@'), "{agent} does not say {word}");
        word.to_owned()
    })
}

fn claude_code(name: &str, argument: &str, index: usize) -> Option<String> {
    let message = |content: &str, kind: &str, more: &str| {
        format!(
            "print:{{\"type\":\"{kind}\",\"session_id\":\"s\",{more}\"message\":{{\"id\":\"m{index}\",\"content\":[{content}]}}}}"
        )
    };
    let call = |id: &str| {
        let call = format!("{{\"type\":\"tool_use\",\"id\":\"{id}\",\"name\":\"Bash\",\"input\":{{}}}}");
        message(&call, "assistant", "")
    };
    let done = |id: &str, failed: bool| {
        let done = format!("{{\"type\":\"tool_result\",\"tool_use_id\":\"{id}\",\"is_error\":{failed}}}");
        message(&done, "user", "")
    };
    let limit = |status: &str| {
        let at = UNIX_EPOCH.elapsed().unwrap().as_secs() + argument.parse::<u64>().unwrap();
        format!(
            "print:{{\"type\":\"rate_limit_event\",\"session_id\":\"s\",\
             \"rate_limit_info\":{{\"status\":\"{status}\",\"resetsAt\":{at}}}}}"
        )
    };
    let retry = |seconds: u64, error: &str| {
        format!(
            "print:{{\"type\":\"system\",\"subtype\":\"api_retry\",\"session_id\":\"s\",\"attempt\":1,\
             \"retry_delay_ms\":{},\"error_status\":{error}}}",
            seconds * 1000
        )
    };
    let text = "{\"type\":\"text\",\"text\":\"hm\"}";
    Some(match name {
        "@init" => "print:{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"s\",\"model\":\"m\"}".into(),
        "@text" => message(text, "assistant", ""),
        // Of an agent that a call of the first tool started.
        "@below" => message(text, "assistant", "\"parent_tool_use_id\":\"c1\","),
        "@delta" => "print:{\"type\":\"stream_event\",\"session_id\":\"s\",\"event\":{\"type\":\"content_block_delta\",\
            \"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"h\"}}}"
            .into(),
        "@tool" => call("c1"),
        "@tool-done" => done("c1", false),
        "@tool2" => call("c2"),
        "@tool2-done" => done("c2", false),
        "@failing-call" => done("c3", true),
        "@useless-call" => done("c4", false),
        "@retry" if argument.is_empty() => retry(1, "503,\"error\":\"overloaded\""),
        "@retry" => retry(argument.parse().unwrap(), "429,\"error\":\"rate_limit\""),
        "@limit" => limit("rejected"),
        "@warning" => limit("allowed_warning"),
        "@compacting" => {
            "print:{\"type\":\"system\",\"subtype\":\"status\",\"session_id\":\"s\",\"status\":\"compacting\"}".into()
        }
        "@compacted" => "print:{\"type\":\"system\",\"subtype\":\"compact_boundary\",\"session_id\":\"s\",\
            \"compact_metadata\":{\"trigger\":\"auto\",\"pre_tokens\":167000}}"
            .into(),
        "@result" => "print:{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"session_id\":\"s\",\
            \"result\":\"done\"}"
            .into(),
        _ => return None,
    })
}

fn opencode(name: &str) -> Option<String> {
    let part = |kind: &str, part: &str| {
        format!(
            "print:{{\"type\":\"{kind}\",\"timestamp\":1,\"sessionID\":\"s\",\"part\":{{\"type\":{part}}}}}"
        )
    };
    Some(match name {
        "@step" => part("step_start", "\"step-start\""),
        "@text" => part("text", "\"text\",\"text\":\"hm\""),
        "@result" => part(
            "step_finish",
            "\"step-finish\",\"reason\":\"stop\",\"tokens\":{\"total\":110,\"input\":100,\"output\":10},\"cost\":0",
        ),
        "@failed-call" => {
            "stderr:timestamp=2026-01-01T00:00:00.000Z level=ERROR run=1 message=\"stream error\" \
            providerID=mock modelID=m1 session.id=s small=false agent=build mode=primary \
            error.error=\"AI_APICallError: Rate limit reached for requests\""
                .into()
        }
        _ => return None,
    })
}

fn codex(name: &str, index: usize) -> Option<String> {
    let command = |kind: &str, state: &str| {
        format!(
            "print:{{\"type\":\"{kind}\",\"item\":{{\"id\":\"c1\",\"type\":\"command_execution\",\
             \"command\":\"bash -lc make\",\"aggregated_output\":\"\",{state}}}}}"
        )
    };
    Some(match name {
        "@init" => "print:{\"type\":\"thread.started\",\"thread_id\":\"s\"}".into(),
        "@turn" => "print:{\"type\":\"turn.started\"}".into(),
        "@text" => format!(
            "print:{{\"type\":\"item.completed\",\"item\":{{\"id\":\"i{index}\",\"type\":\"agent_message\",\"text\":\"hm\"}}}}"
        ),
        "@tool" => command("item.started", "\"exit_code\":null,\"status\":\"in_progress\""),
        "@tool-done" => command("item.completed", "\"exit_code\":0,\"status\":\"completed\""),
        "@retry" => {
            "print:{\"type\":\"error\",\"message\":\"Reconnecting... 1/5 (stream disconnected before \
            completion: error sending request)\"}"
                .into()
        }
        _ => return None,
    })
}

fn gemini(name: &str, argument: &str) -> Option<String> {
    Some(match name {
        "@init" => "print:{\"type\":\"init\",\"session_id\":\"s\",\"model\":\"m\"}".into(),
        "@text" => {
            "print:{\"type\":\"message\",\"role\":\"assistant\",\"content\":\"hm\",\"delta\":true}".into()
        }
        "@tool" => "print:{\"type\":\"tool_use\",\"tool_name\":\"run_shell_command\",\"tool_id\":\"c1\",\
            \"parameters\":{\"command\":\"make\"}}"
            .into(),
        "@limit" => format!(
            "stderr:Attempt 1 failed: You have exhausted your capacity on this model. Your quota will reset after \
             {argument}s.. Retrying after {argument}000ms..."
        ),
        "@result" => "print:{\"type\":\"result\",\"status\":\"success\",\"stats\":{}}".into(),
        _ => return None,
    })
}
