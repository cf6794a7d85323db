//! Definitions: what is accepted, what is refused and how, and what they are called.

mod builder;
mod read;
mod text;
