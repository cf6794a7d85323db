//! A shop of five services.
