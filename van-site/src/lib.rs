//! A site of a VAN: its documents, their loading and checks, its folder, its status.

pub mod document;
pub mod folder;
pub mod resource;
pub mod secret_text;
pub mod status;
pub mod yaml;
