from scaling.laws.fitting import Fit, fit
from scaling.laws.forms import FORMS, Form, LawError, Parameter
