//! Usable alone: the derive macros of the library; a proc-macro crate, as derive macros must be one.
//!
//! They are sugar: each writes an implementation that could be written by hand. What is wrong with
//! the attributes is said where it is written.

mod event;
mod failure;

use proc_macro::TokenStream;
use syn::{DeriveInput, Error, parse_macro_input};

/// Implements `wharf::Event`.
///
/// `#[event(type = "shop.order.placed", topic = "shop.orders", key = "order", subject = "order")]`:
/// `type` and `topic` are needed; `key`, `subject` and `id` name fields. An event whose fields are all
/// identifiers (`id`, `…_id`, `Uuid`, `…Id`) is warned about, since every consumer would have to ask
/// for the rest; `notification` says that it is meant.
#[proc_macro_derive(Event, attributes(event))]
pub fn event(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    event::derive(&input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

/// Implements `wharf::Failure`.
///
/// Each variant (or the struct) has `#[failure(retry)]`, `#[failure(retry = "200ms x2, max 30s, 8
/// times")]`, `#[failure(dead_letter)]`, `#[failure(skip)]` or `#[failure(conflict)]`.
#[proc_macro_derive(Failure, attributes(failure))]
pub fn failure(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    failure::derive(&input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}
