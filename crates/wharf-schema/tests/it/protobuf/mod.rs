//! Protobuf from outside: files made by chance and changes to them.

mod generate;
#[cfg(feature = "real-servers")]
mod real_servers {
    mod buf;
}
mod witness;
