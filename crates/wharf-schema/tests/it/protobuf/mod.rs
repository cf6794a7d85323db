//! Protobuf from outside: files made by chance and changes to them.

#[cfg(feature = "real-servers")]
mod buf;
mod generate;
mod witness;
