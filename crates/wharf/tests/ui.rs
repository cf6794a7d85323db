//! What the compiler says to common mistakes. A binary of its own: each case is a crate that must not
//! compile. After a change of the messages: `TRYBUILD=overwrite cargo test -p wharf --features sqlite
//! --test ui`, and read what changed.

#[cfg(feature = "sqlite")]
#[test]
fn common_mistakes_do_not_compile_and_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
