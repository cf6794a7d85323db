//! Compression codecs with bounded output, for looking into batches when a question needs it.
