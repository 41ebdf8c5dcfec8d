"""MAG: a gate that shifts one modality by the others (Rahman et al., ACL 2020)."""
