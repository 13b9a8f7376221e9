//! The one table of exit codes. Codes of the first version are fixed for ever.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! exit_codes {
    ($($variant:ident = $code:literal, $name:literal, $meaning:literal;)*) => {
        /// Exit code of a `dx-runner` command.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum ExitCode { $(#[doc = $meaning] $variant,)* }

        impl ExitCode {
            /// All codes in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The number.
            pub fn code(self) -> u8 { match self { $(Self::$variant => $code,)* } }
            /// The published name.
            pub fn name(self) -> &'static str { match self { $(Self::$variant => $name,)* } }
            /// Who uses it and for what.
            pub fn meaning(self) -> &'static str { match self { $(Self::$variant => $meaning,)* } }
        }
    };
}

exit_codes! {
    Ok = 0, "ok", "Success; `check`: healthy, starting, or ended well.";
    Error = 1, "error", "General error; `check`: missing; `probe-attach`: server unreachable or unhealthy.";
    Stalled = 2, "stalled", "`check`: stalled.";
    JobError = 3, "job_error", "`check`: exited with error, or blocked.";
    AuthFailed = 10, "auth_failed", "Credentials could not be resolved.";
    TokenFile = 11, "token_file", "Token file missing, unreadable or empty.";
    ProviderNotFound = 20, "provider_not_found", "No such provider.";
    PreflightFailed = 21, "preflight_failed", "A preflight check failed.";
    PermissionDenied = 22, "permission_denied", "Worktree outside the allowed places, or missing.";
    NoOp = 23, "no_op", "`check`: no-op detected.";
    BeadsGate = 24, "beads_gate", "Beads gate failed; `probe-attach`: server healthy but no execution context.";
    ModelUnavailable = 25, "model_unavailable", "The required model is not available.";
    Capacity = 26, "capacity", "The provider's concurrency cap is reached.";
    LaneUnavailable = 27, "lane_unavailable", "Server or attach lane cannot be used.";
    CheckFailed = 28, "check_failed", "A verification command failed.";
    Scope = 29, "scope", "Scope gate failed.";
    Evidence = 30, "evidence", "Evidence gate failed.";
    Partial = 31, "partial", "Wave, batch or benchmark ended with mixed results.";
    Conflict = 32, "conflict", "Job already running, lock held, or the state forbids it.";
    Format = 33, "format", "Record or file is newer than this program, or not readable.";
    Approval = 34, "approval", "Stopped: a person has to decide.";
    Timeout = 35, "timeout", "Ran into its deadline; nothing was stopped unless it says so.";
    Usage = 64, "usage", "The command line is wrong.";
    Interrupted = 130, "interrupted", "Ctrl-C; jobs go on.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_ascend_and_are_unique() {
        assert!(ExitCode::ALL.windows(2).all(|w| w[0].code() < w[1].code()));
    }
}
