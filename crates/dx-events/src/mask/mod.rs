//! Finds secrets in bytes: values that are known, in the forms in which they are printed, and shapes of tokens.
//!
//! Called by the monitor for what an agent prints, before it is parsed or journalled, by the settler for the whole log,
//! and through [`Secrets::mask_text`] by everything that we print or write ourselves. Masking replaces each byte by `*`,
//! so that no length and no offset changes. Never does I/O, never shows a value in `Debug`.

mod forms;
mod known;
mod shapes;
mod stream;

pub use known::{Secrets, values_in};
pub use shapes::{SHAPES, ShapeRow};
pub use stream::MaskStream;

/// What stands in a secret's place.
pub const MASK: u8 = b'*';

/// What one look at one place says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look<T> {
    No,
    /// The text ends before it can be told.
    More,
    Found(T),
}
