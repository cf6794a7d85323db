//! Definitions: what is accepted, what is refused and how, and what they are called.

mod builder;
mod draw;
mod import;
mod read;
mod text;
