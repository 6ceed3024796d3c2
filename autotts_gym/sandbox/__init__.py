"""The sandbox: plays untrusted controllers in locked-down processes without access to traces."""
