"""Filters written once, such as `(F("year") >= 2024) & F("type").in_(["pdf", "html"])`, in the service's two languages.

=====================================  ============================  ================  ======================
expression                             means                         metadata-filters  advanced-query.filters
=====================================  ============================  ================  ======================
`F(f) == v`, `F(f).in_([v, w])`        the value is one of these     yes               `term`, `terms`
`F(f).contains(v)`                     a list has this member        no                `term`
`F(f) < v`, `<=`, `>`, `>=`            within the bound              no                `range`
`F(f).between(low, high)`              within both, bounds included  no                `range`
`a & b`                                both                          one object each   `bool.must`
`a | b`                                at least one                  on one field      `bool.should`
`~a`, `F(f) != v`, `F(f).not_in([v])`  a does not hold               no                `bool.must_not`
`F(f).exists()`                        the field is there            no                no: ConfigurationError
=====================================  ============================  ================  ======================

A field that is a **list** holds each of its members: `==`, `in_` and the comparisons ask for one that fits. A **missing
field** holds no value: `==`, `in_`, `contains` and comparisons are false for it, so `!=`, `not_in` and `~` are true.
To ask for "there and different", write `(F(f) < v) | (F(f) > v)`. Numbers are not texts: 2024 is not "2024".

Seen in the service's documents: that `metadata-filters` is an array of objects, and that `advanced-query.filters` is a
part of the Elasticsearch query DSL (term, terms, range, bool with must, should, must_not, nested), which works with the
built-in database and Elasticsearch only. *Inferred*: AND across the objects of `metadata-filters`, OR inside a list of
values, AND between the two languages, and for lists and missing fields what Elasticsearch does. What a field named in
two objects means is published nowhere, so none is named twice: the second condition goes to `advanced-query.filters`.
"""

from .expressions import Condition, F, Filter, Scalar
from .translation import Split, conjoin, split, to_advanced_filters, to_metadata_filters

__all__ = [
    "Condition",
    "F",
    "Filter",
    "Scalar",
    "Split",
    "conjoin",
    "split",
    "to_advanced_filters",
    "to_metadata_filters",
]
