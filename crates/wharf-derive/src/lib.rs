//! Usable alone: the macros of the library; a proc-macro crate, as macros of this kind must be in one.
//!
//! The derive macros are sugar: each writes an implementation that could be written by hand. The
//! attribute `handler` writes nothing that runs. What is wrong is said where it is written.

mod event;
mod failure;
mod handler;
mod schema;

use proc_macro::TokenStream;
use syn::{DeriveInput, Error, ItemFn, parse_macro_input};

/// Implements `wharf::Event`.
///
/// `#[event(type = "shop.order.placed", topic = "shop.orders", key = "order", subject = "order")]`:
/// `type` and `topic` are needed; `key`, `subject` and `id` name fields. An event whose fields are all
/// identifiers (`id`, `…_id`, `Uuid`, `…Id`) is warned about, since every consumer would have to ask
/// for the rest; `notification` says that it is meant.
///
/// `schema = "json"` or `schema = "avro"` also implements `wharf::Schema`, and gives the event a
/// schema of that kind made from its fields; `proto = "proto/orders.proto", message =
/// "shop.OrderPlaced"` gives it the schema in that file of the crate (`import = "…"` names each file
/// that it imports, by its path below the same folder), for a type that is a `prost::Message`.
#[proc_macro_derive(Event, attributes(event, schema, serde))]
pub fn event(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    event::derive(&input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

/// Implements `wharf::Schema`, for a type that is a part of an event with a schema.
///
/// `#[schema(name = "ShippingAddress")]` gives it another name than the Rust type's.
#[proc_macro_derive(Schema, attributes(schema, serde))]
pub fn schema(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    schema::derive(&input)
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

/// Says what keeps an `async fn` from being a handler at the very argument, return type or `await`.
///
/// It changes nothing: a function that fits is a handler with and without it, and one that does not
/// fit is refused by `on` anyway, whose message can only name the function. Put it on while the
/// compiler is of no help, or leave it on. Arguments are checked for the state in `State<T>`; a
/// handler that takes parts of the router's state, or an extractor that needs it, names it:
/// `#[wharf::handler(state = AppState)]`. For functions outside of an `impl`.
#[proc_macro_attribute]
pub fn handler(settings: TokenStream, function: TokenStream) -> TokenStream {
    let settings = parse_macro_input!(settings as handler::Settings);
    let function = parse_macro_input!(function as ItemFn);
    handler::check(settings, &function).into()
}
