//! What of the benchmark is to run: said to `cargo xtask bench`, which hands it on to the benchmark
//! as it is.

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(about = None, long_about = None)]
pub struct Selection {
    /// Short measurements of fewer rows: only to see that everything runs
    #[arg(long)]
    pub quick: bool,
    /// Only rows whose names start so, such as produce-1k or one
    #[arg(long, value_name = "ROWS", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Only these servers, such as wharf,kafka
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub servers: Vec<String>,
}

impl Selection {
    /// The arguments that say the same.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if self.quick {
            arguments.push("--quick".to_owned());
        }
        for (name, values) in [("--only", &self.only), ("--servers", &self.servers)] {
            if !values.is_empty() {
                arguments.extend([name.to_owned(), values.join(",")]);
            }
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        selection: Selection,
    }

    #[test]
    fn the_arguments_say_what_was_said() {
        let some = Selection {
            quick: true,
            only: vec!["one".to_owned(), "produce-1k-1-".to_owned()],
            servers: vec!["wharf".to_owned(), "kafka".to_owned()],
        };
        for selection in [Selection::default(), some] {
            let arguments = [vec!["bench".to_owned()], selection.arguments()].concat();
            assert_eq!(Cli::parse_from(arguments).selection, selection);
        }
    }
}
