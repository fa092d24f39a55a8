//! Who may offer.

/// The tokens.
#[derive(Clone)]
pub struct Tokens;
