"""What is wrong with a corpus. `ct_xception.audit("DIR")` is `ct_xception.audit.corpus_audit.audit`."""

from ct_xception.callable_package import make_callable

make_callable(__name__, "ct_xception.audit.corpus_audit.audit")
