//! `history query`: one SELECT of the user's on the cache, which nothing of it can change.
//!
//! Three fences: SQLite's own word that the statement writes nothing, an authorizer that knows only reading (no ATTACH,
//! no PRAGMA, no loading of code), and a connection that refuses to write. Must never: run two statements.

use crate::error::EngineError;
use dx_protocol::{HistoryQueryDocument, HistoryValue};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, Statement};

/// Runs the statement and reads all its rows.
pub(super) fn run(db: &mut Connection, sql: &str) -> Result<HistoryQueryDocument, EngineError> {
    let refused = |message: String| EngineError::QueryRefused { message };
    let failed = |error: rusqlite::Error| match error.sqlite_error_code() {
        // Not the query's fault.
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => EngineError::from(error),
        _ => EngineError::QueryRefused { message: told(&error) },
    };
    db.pragma_update(None, "query_only", true)?;
    db.authorizer(Some(may))?;
    let mut statement = db.prepare(sql).map_err(failed)?;
    if !statement.readonly() {
        return Err(refused("only reading is allowed".to_owned()));
    }
    if statement.column_count() == 0 {
        return Err(refused("the query gives no columns".to_owned()));
    }
    if statement.parameter_count() > 0 {
        return Err(refused("the query has parameters, and there are no values for them".to_owned()));
    }
    let columns = statement.column_names().map(str::to_owned).collect();
    let rows = rows(&mut statement).map_err(failed)?;
    Ok(HistoryQueryDocument { schema: "dx-runner/history-query/1".to_owned(), columns, rows })
}

fn rows(statement: &mut Statement<'_>) -> rusqlite::Result<Vec<Vec<HistoryValue>>> {
    let width = statement.column_count();
    let mut rows = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push((0..width).map(|at| row.get_ref(at).map(value)).collect::<rusqlite::Result<_>>()?);
    }
    Ok(all)
}

/// What SQLite says, without the number of its error.
fn told(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::MultipleStatement => "one statement at a time".to_owned(),
        rusqlite::Error::SqliteFailure(code, _)
            if code.code == ErrorCode::AuthorizationForStatementDenied =>
        {
            "only reading is allowed".to_owned()
        }
        rusqlite::Error::SqlInputError { msg, .. } | rusqlite::Error::SqliteFailure(_, Some(msg)) => {
            msg.clone()
        }
        other => other.to_string(),
    }
}

fn may(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => Authorization::Allow,
        AuthAction::Function { function_name } if function_name != "load_extension" => Authorization::Allow,
        _ => Authorization::Deny,
    }
}

/// A value as it is told; bytes are text.
pub(super) fn value(value: ValueRef<'_>) -> HistoryValue {
    match value {
        ValueRef::Null => HistoryValue::Null,
        ValueRef::Integer(number) => HistoryValue::Integer(number),
        ValueRef::Real(number) => HistoryValue::Real(number),
        ValueRef::Text(text) | ValueRef::Blob(text) => {
            HistoryValue::Text(String::from_utf8_lossy(text).into_owned())
        }
    }
}
