//! Definitions: what is accepted, what is refused and how, and what they are called.

mod builder;
mod draw;
mod read;
mod text;
