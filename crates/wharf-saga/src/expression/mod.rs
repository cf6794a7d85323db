//! How data flows through a saga: paths, templates, functions and conditions of both query languages.
