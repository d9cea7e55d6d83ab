"""Values in XML templates: the same bytes as markupsafe's, without a wrapper object for each."""

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup, escape

from engine.provisioning.escaping import EscapingEnvironment, escaped, escaped_text


@given(st.one_of(st.text(), st.text(alphabet="&<>'\"a"), st.integers(), st.booleans(), st.none(), st.floats()))
def test_every_value_is_written_as_markupsafe_writes_it(value):
    assert escaped(value) == str(escape(value))
    if isinstance(value, str):
        assert escaped_text(value) == str(escape(value))
        assert escaped(Markup(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        "{{ v }}",
        '<a b="{{ v }}"/>',
        "{% set x %}{{ v }}{% endset %}{{ x }}",
        "{{ v ~ v }}",
        "{{ (v ~ '<')|safe }}",
        "{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(v) }}{{ m(m(v)) }}",
        "{{ [v, v]|join('<') }}",
        "{{ '<'|safe ~ v }}",
        "{% autoescape false %}{{ v }}{% endautoescape %}",
        "{{ v|e }}{{ v|e|e }}",
        "{{ 1 if false }}",
        "{{ none }}{{ 1 }}",
    ],
)
@pytest.mark.parametrize("autoescape", [True, False])
def test_templates_give_the_same_text_as_in_an_environment_of_jinja_s_own(text, autoescape):
    made = [kind(autoescape=autoescape).from_string(text) for kind in (EscapingEnvironment, jinja2.Environment)]
    assert len({template.render(v="a<b>&\"c'") for template in made}) == 1
