//! What a saga is to do: the model of a definition, its text forms and its checks.
