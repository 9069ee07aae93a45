"""One JupyterLab for all tests of widgets."""

from tests.notebooks.sheets import fresh_sheet as fresh_sheet
from tests.notebooks.sheets import sheet as sheet
