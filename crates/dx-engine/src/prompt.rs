//! Reading and checking a prompt. It is copied into the run's directory and never travels on a command line.

use crate::api::PromptSource;
use crate::error::EngineError;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::Read;

/// Longest prompt in bytes. Gemini CLI drops what goes beyond it without a word.
const MAX_BYTES: u64 = 8 << 20;

/// A checked prompt.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prompt {
    pub(crate) bytes: Vec<u8>,
    /// As it was named; `-` when it was given as text or there is none.
    pub(crate) name: String,
}

impl Prompt {
    /// Reads the source. `None` gives the empty prompt of a command that needs none.
    pub(crate) fn read(source: Option<&PromptSource>) -> Result<Self, EngineError> {
        let prompt = match source {
            None => return Ok(Self { bytes: Vec::new(), name: "-".to_owned() }),
            Some(PromptSource::Text(bytes)) => Self { bytes: bytes.clone(), name: "-".to_owned() },
            Some(PromptSource::File(path)) => {
                let unreadable = |source| EngineError::PromptUnreadable { path: path.clone(), source };
                let mut bytes = Vec::new();
                let file = std::fs::File::open(path).map_err(unreadable)?;
                file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
                let name = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                Self { bytes, name: name.to_string_lossy().into_owned() }
            }
        };
        prompt.check()?;
        Ok(prompt)
    }

    fn check(&self) -> Result<(), EngineError> {
        let problem = if self.bytes.trim_ascii().is_empty() {
            "is empty"
        } else if self.bytes.len() as u64 > MAX_BYTES {
            "is longer than 8 MiB"
        } else if self.bytes.contains(&0) {
            "holds a NUL byte"
        } else if std::str::from_utf8(&self.bytes).is_err() {
            "is not valid UTF-8"
        } else {
            return Ok(());
        };
        Err(EngineError::PromptInvalid(problem))
    }

    /// Hex SHA-256.
    pub(crate) fn sha256(&self) -> String {
        sha256_hex(&self.bytes)
    }
}

/// Hexadecimal SHA-256.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _fits = write!(hex, "{byte:02x}");
        hex
    })
}
