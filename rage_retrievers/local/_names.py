"""Names: those that the embedded service answers to unless told otherwise, and one of a foreign error."""

LOCAL_ORGANIZATION = "00000000-0000-4000-8000-000000000000"
LOCAL_PIPELINE = "aip00000-0000-4000-8000-000000000000"


def is_panic(error: BaseException) -> bool:
    """Whether the text index has met what cannot be: it raises no Exception, and a class that nobody can import."""
    return type(error).__name__ == "PanicException"
