"""What one looks at a network with."""

from striate.tools.summary import Row as Row, Summary as Summary, summary as summary
