//! Every variant says what is to be done about it.

use wharf::Failure;

#[derive(Debug, thiserror::Error, Failure)]
enum Fails {
    #[error("silent")]
    Silent,
}

#[derive(Debug, thiserror::Error, Failure)]
enum Unclear {
    #[error("unclear")]
    #[failure(retry = "soon")]
    Soon,
    #[error("both")]
    #[failure(retry, skip)]
    Both,
}

fn main() {}
