//! What HTTP/2 carries: heads as fields, and the frames of a client as they pass by.

mod meter;
mod request_heads;
mod response_heads;
