//! `dx-runner mcp`: the protocol with a client of our own, and real agents that call the tools.

mod agents;
mod client;
mod given_up;
mod protocol;
mod tools;
