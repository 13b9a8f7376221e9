//! Where a question is asked: a session of its own, or one that an earlier question has kept.
//!
//! Must never: ask where the model may change anything.

use super::open::Open;
use super::turn::Turn;
use super::{Failure, Question};
use dx_jobdir::StateDir;
use dx_opencode::{Client, ClientError, PATIENCE, Permission};
use dx_protocol::ReasonCode;
use serde_json::{Value, json};

/// A question changes nothing. The tool for structured answers is one, too.
const RULES: [Permission; 2] = [
    Permission { permission: "*", pattern: "*", action: "deny" },
    Permission { permission: "StructuredOutput", pattern: "*", action: "allow" },
];
/// A question about a directory may read there, and nothing else.
const READS: [Permission; 4] = [
    Permission { permission: "read", pattern: "*", action: "allow" },
    Permission { permission: "glob", pattern: "*", action: "allow" },
    Permission { permission: "grep", pattern: "*", action: "allow" },
    Permission { permission: "list", pattern: "*", action: "allow" },
];

/// What one does about a session that is none.
const OF_A_SESSION: &str = "name one that was told with --keep-session, or leave --session out";

/// The session, with what goes when it has been looked after.
pub(super) struct Place {
    pub(super) client: Client,
    pub(super) session: String,
    /// Whether it was made for this question.
    pub(super) is_new: bool,
    /// Of questions in one session, one at a time.
    pub(super) turn: Option<Turn>,
    /// The record of it; none where nothing can be written.
    pub(super) open: Option<Open>,
}

impl Place {
    /// Makes it, or finds the one that was named and waits for its turn there.
    pub(super) fn find(
        client: &Client,
        state: Option<&StateDir>,
        question: &Question<'_>,
    ) -> Result<Self, Failure> {
        let open = |client: &Client, reused| {
            state.and_then(|state| Open::of_session(state, client, question.title, reused).ok())
        };
        let patience = || question.left().min(PATIENCE);
        if let Some(id) = question.session {
            if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                let failure =
                    Failure::new(ReasonCode::InvalidArgument, format!("`{id}` is no id of a session"));
                return Err(failure.with(OF_A_SESSION));
            }
            let session = client.session(id, patience()).map_err(|error| match error {
                ClientError::Refused { status: 404, .. } => question.failed(error).with(OF_A_SESSION),
                error => question.failed(error),
            })?;
            if !changes_nothing(&session.permission) {
                let message =
                    format!("session {id} is no question's: its model may change files and run commands");
                return Err(Failure::new(ReasonCode::InvalidArgument, message).with(OF_A_SESSION));
            }
            // A session works in its own directory; calls for another one would not reach it.
            let client = client.in_directory(&session.directory);
            let turn = Turn::wait(state, &client, &session.id, question)?;
            let open = open(&client, Some(session.id.as_str()));
            return Ok(Self { client, session: session.id, is_new: false, turn, open });
        }
        let mut rules = RULES.to_vec();
        rules.extend(question.reads.then_some(READS).into_iter().flatten());
        let open = open(client, None);
        let mark = open.as_ref().map(Open::metadata);
        let session = client
            .create_session(question.title, &rules, mark, patience())
            .map_err(|error| question.failed(error))?;
        if let Some(open) = &open {
            open.note(&session);
        }
        Ok(Self { client: client.clone(), session: session.id, is_new: true, turn: None, open })
    }
}

/// Whether these are the rules of a session that was made for a question.
fn changes_nothing(rules: &Value) -> bool {
    let with_reads = [&RULES[..], &READS[..]].concat();
    [json!(RULES), json!(with_reads)].contains(rules)
}
