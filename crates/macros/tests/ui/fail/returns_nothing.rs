use service_mesh::with_retry;

#[with_retry]
fn fetch() {}

fn main() {
    fetch();
}
