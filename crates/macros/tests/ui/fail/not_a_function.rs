use service_mesh::with_retry;

#[with_retry]
struct Client;

fn main() {
    let _ = Client;
}
