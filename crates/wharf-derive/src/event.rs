//! `#[derive(Event)]`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Field, Fields, Ident, LitStr, Result, Type};

/// What the attribute says.
#[derive(Default)]
struct Settings {
    kind: Option<LitStr>,
    topic: Option<LitStr>,
    key: Option<LitStr>,
    subject: Option<LitStr>,
    id: Option<LitStr>,
    schema: Option<LitStr>,
    proto: Option<LitStr>,
    proto_set: Option<LitStr>,
    message: Option<LitStr>,
    imports: Vec<LitStr>,
    /// It is meant that it carries nothing but identifiers.
    notification: bool,
}

const EXAMPLE: &str =
    "#[event(type = \"shop.order.placed\", topic = \"shop.orders\", key = \"order\")]";

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let settings = settings(input)?;
    let missing = |what: &str| {
        Error::new(
            input.ident.span(),
            format!("the event has no {what}: {EXAMPLE}"),
        )
    };
    let kind = settings.kind.as_ref().ok_or_else(|| missing("type"))?;
    let topic = settings.topic.as_ref().ok_or_else(|| missing("topic"))?;
    check_topic(topic)?;
    let methods = [("key", &settings.key), ("subject", &settings.subject)]
        .into_iter()
        .filter_map(|(name, field)| field.as_ref().map(|field| text_method(input, name, field)))
        .collect::<Result<Vec<_>>>()?;
    let id = settings
        .id
        .as_ref()
        .map(|field| id_method(input, field))
        .transpose()?;
    let contract = contract(input, &settings)?;
    let schema = match settings.schema {
        Some(_) => Some(crate::schema::derive(input)?),
        None => None,
    };
    let lint = (!settings.notification && is_bare(input)).then(|| bare_lint(&input.ident));
    let name = &input.ident;
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        impl #generics ::wharf::Event for #name #arguments #bounds {
            const TYPE: &'static str = #kind;
            const TOPIC: &'static str = #topic;
            #(#methods)*
            #id
            #contract
        }
        #schema
        #lint
    })
}

/// The method that gives the event's schema, if it brings one.
fn contract(input: &DeriveInput, settings: &Settings) -> Result<Option<TokenStream>> {
    let made = match (&settings.schema, &settings.proto, &settings.proto_set) {
        (None, None, None) => return Ok(None),
        (Some(kind), None, None) => by_fields(kind)?,
        (None, Some(file), None) => of_file(file, settings)?,
        (None, None, Some(set)) => of_set(set, settings)?,
        (Some(one), ..) | (None, Some(one), _) => {
            let text = "an event has one schema: `schema`, `proto` or `proto_set`";
            return Err(Error::new(one.span(), text));
        }
    };
    if let Some(parameter) = input.generics.type_params().next() {
        let text = "an event with a schema has no type parameters: each of its forms would need a schema of its own";
        return Err(Error::new(parameter.span(), text));
    }
    Ok(Some(quote! {
        fn contract() -> ::core::option::Option<
            ::core::result::Result<&'static ::wharf::schema::Contract, ::wharf::schema::SchemaError>,
        > {
            static CONTRACT: ::wharf::schema::Lazy = ::wharf::schema::Lazy::new();
            ::core::option::Option::Some(CONTRACT.get(|| #made))
        }
    }))
}

/// A schema made from the fields.
fn by_fields(kind: &LitStr) -> Result<TokenStream> {
    let function = match kind.value().as_str() {
        "json" => quote! { json },
        "avro" => quote! { avro },
        _ => {
            let text = "there is \"json\" and \"avro\"; Protobuf has `proto = \"…\"` instead";
            return Err(Error::new(kind.span(), text));
        }
    };
    Ok(quote! { ::wharf::schema::Contract::#function::<Self>() })
}

/// The message of a `.proto` file, with the files that it imports.
fn of_file(file: &LitStr, settings: &Settings) -> Result<TokenStream> {
    let (message, imports) = (message(file, settings)?, &settings.imports);
    let folder = file.value();
    let folder = folder.rsplit_once('/').map_or("", |(folder, _)| folder);
    let paths = imports.iter().map(|import| match folder {
        "" => import.value(),
        folder => format!("{folder}/{}", import.value()),
    });
    Ok(quote! {
        ::wharf::schema::Contract::protobuf::<Self>(
            #message,
            ::core::include_str!(::core::concat!(::core::env!("CARGO_MANIFEST_DIR"), "/", #file)),
            &[#((
                #imports,
                ::core::include_str!(::core::concat!(::core::env!("CARGO_MANIFEST_DIR"), "/", #paths)),
            )),*],
        )
    })
}

/// The message of a compiled set. What a build script writes is in its `$OUT_DIR`.
fn of_set(set: &LitStr, settings: &Settings) -> Result<TokenStream> {
    let message = message(set, settings)?;
    if let Some(import) = settings.imports.first() {
        let text = "a compiled set has its imports in it: compile it with --include_imports";
        return Err(Error::new(import.span(), text));
    }
    let path = set.value();
    let (folder, path) = match path.strip_prefix("$OUT_DIR/") {
        Some(path) => ("OUT_DIR", path),
        None => ("CARGO_MANIFEST_DIR", &*path),
    };
    Ok(quote! {
        ::wharf::schema::Contract::protobuf_set::<Self>(
            #message,
            ::core::include_bytes!(::core::concat!(::core::env!(#folder), "/", #path)),
        )
    })
}

fn message<'a>(file: &LitStr, settings: &'a Settings) -> Result<&'a LitStr> {
    settings.message.as_ref().ok_or_else(|| {
        let text = "which message of it? message = \"shop.OrderPlaced\"";
        Error::new(file.span(), text)
    })
}

/// Whether all it carries are identifiers, by their names and types.
fn is_bare(input: &DeriveInput) -> bool {
    let Data::Struct(data) = &input.data else {
        return false;
    };
    let is_id = |field: &Field| {
        let by_name = field
            .ident
            .as_ref()
            .is_some_and(|name| name == "id" || name.to_string().ends_with("_id"));
        let by_type =
            match &field.ty {
                Type::Path(path) => path.path.segments.last().is_some_and(|last| {
                    last.ident == "Uuid" || last.ident.to_string().ends_with("Id")
                }),
                _ => false,
            };
        by_name || by_type
    };
    !data.fields.is_empty() && data.fields.iter().all(is_id)
}

/// A warning at the struct: macros cannot warn, but what is deprecated does.
fn bare_lint(name: &Ident) -> TokenStream {
    let note = format!(
        "the event `{name}` carries nothing but identifiers, so every consumer has to ask its service \
         for the rest. Carry what they need (event-carried state transfer), or say that it is meant: \
         #[event(notification)]"
    );
    quote_spanned! { name.span() =>
        const _: () = {
            #[deprecated(note = #note)]
            const IDENTIFIERS_ONLY: () = ();
            IDENTIFIERS_ONLY
        };
    }
}

fn settings(input: &DeriveInput) -> Result<Settings> {
    let mut settings = Settings::default();
    for attribute in input
        .attrs
        .iter()
        .filter(|attribute| attribute.path().is_ident("event"))
    {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("notification") {
                settings.notification = true;
                return Ok(());
            }
            if meta.path.is_ident("import") {
                settings.imports.push(meta.value()?.parse()?);
                return Ok(());
            }
            let slot = if meta.path.is_ident("type") {
                &mut settings.kind
            } else if meta.path.is_ident("topic") {
                &mut settings.topic
            } else if meta.path.is_ident("key") {
                &mut settings.key
            } else if meta.path.is_ident("subject") {
                &mut settings.subject
            } else if meta.path.is_ident("id") {
                &mut settings.id
            } else if meta.path.is_ident("schema") {
                &mut settings.schema
            } else if meta.path.is_ident("proto") {
                &mut settings.proto
            } else if meta.path.is_ident("proto_set") {
                &mut settings.proto_set
            } else if meta.path.is_ident("message") {
                &mut settings.message
            } else {
                return Err(meta.error(
                    "expected `type`, `topic`, `key`, `subject`, `id`, `notification`, `schema`, \
                     `proto`, `proto_set`, `message` or `import`",
                ));
            };
            let value: LitStr = meta.value()?.parse()?;
            if value.value().is_empty() {
                return Err(Error::new(value.span(), "it is empty"));
            }
            *slot = Some(value);
            Ok(())
        })?;
    }
    Ok(settings)
}

/// The rules of topic names, as Kafka has them.
fn check_topic(topic: &LitStr) -> Result<()> {
    let name = topic.value();
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.len() > 249 || name == "." || name == ".." || !name.chars().all(valid) {
        let text = "no topic can have this name: 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'";
        return Err(Error::new(topic.span(), text));
    }
    Ok(())
}

/// The field of this name.
fn field(input: &DeriveInput, name: &LitStr) -> Result<Ident> {
    let Data::Struct(data) = &input.data else {
        let text =
            "only a struct has fields; implement `wharf::Event` by hand for an enum with a key";
        return Err(Error::new(input.span(), text));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new(name.span(), "the struct has no named fields"));
    };
    let wanted = name.value();
    let known = || fields.named.iter().filter_map(|field| field.ident.as_ref());
    known()
        .find(|ident| **ident == wanted)
        .cloned()
        .ok_or_else(|| {
            let names: Vec<String> = known().map(ToString::to_string).collect();
            Error::new(
                name.span(),
                format!(
                    "there is no field `{wanted}`; there is {}",
                    names.join(", ")
                ),
            )
        })
}

fn text_method(input: &DeriveInput, method: &str, name: &LitStr) -> Result<TokenStream> {
    let (field, method) = (field(input, name)?, Ident::new(method, name.span()));
    Ok(quote! {
        fn #method(&self) -> ::core::option::Option<::std::borrow::Cow<'_, str>> {
            ::core::option::Option::Some(::std::borrow::Cow::Owned(
                ::std::string::ToString::to_string(&self.#field),
            ))
        }
    })
}

fn id_method(input: &DeriveInput, name: &LitStr) -> Result<TokenStream> {
    let field = field(input, name)?;
    Ok(quote! {
        fn id(&self) -> ::core::option::Option<::std::string::String> {
            ::core::option::Option::Some(::std::string::ToString::to_string(&self.#field))
        }
    })
}
