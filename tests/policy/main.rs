//! Who may offer and who may visit: each rule from outside, over every way an agent can come.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a report")]

mod answers;
mod certificates;
mod confusion;
mod files;
mod fresh;
mod guesses;
mod https;
mod limits;
mod open;
mod plain;
mod relays;
mod scope;
#[expect(dead_code, unused_imports, reason = "each suite uses a part of it")]
#[path = "../support/mod.rs"]
mod support;
mod together;
mod uncovered;
mod visitors;
mod ways;
