"""The expressions that make_forms.py lets Jinja2 write, one a line."""

EXPRESSIONS = r"""
none is iterable ~ ('ab' is iterable) ~ ([] is iterable) ~ ({} is iterable) ~ (3 is iterable) ~ (nothing is iterable)
none is sequence ~ ('ab' is sequence) ~ ([] is sequence) ~ ({} is sequence) ~ (range(2) is sequence) ~ (3 is sequence)
range is callable ~ (none is callable) ~ ('a' is callable) ~ (namespace is callable)
nothing | default('x', boolean=True) ~ ('' | default('y', true)) ~ ('' | default('z'))
0 | d(default_value=1, boolean=true)
[3].copy() ~ {'a': 1}.copy()
"I'm hello_world x1y it's".title()
tools is none ~ '' ~ documents is none
{'b': 1, 'a': [1, 2.5, none, true], 'c': {'z': '<&\'"é\n'}} | tojson
{'b': 1, 'a': [1, {}], 'c': []} | tojson(indent=2)
{'b': 1, 'a': '🐱é'} | tojson(ensure_ascii=True, sort_keys=true)
[1, {'a': 2}] | tojson(separators=(',', ':'))
[1, [2]] | tojson(indent=1, separators=(';', '='))
{'role': 'user', 'content': 'c'} | tojson
'x' | int(7)
'1e3' | int
'x' | float
'hello big world out there' | truncate(12, true, '.')
'abcdefghij' | truncate(length=4, leeway=0)
7 // -2
-7 % -3 + 1
(1, 'a') | tojson
1e16 | tojson
1e16
1e15
0.00001
1e-7
123456789.125
-0.0
10 / 4
10 // 4
-7 // 2
-7 % 3
7 % -3
7.5 % 2
2 ** 10
2 ** -1
1 + 2 * 3 % 4 - 1
'%s and %d' % ('a', 3)
'%s' % 'x'
'%05.1f|%-4s|%+d' % (3.14159, 'ab', 5)
'%s%%' % 50
'%(a)s-%(b)d' % {'a': 'x', 'b': 2}
'%s' % 'a' ~ 'b'
'%x' % 255
'a' ~ 1 ~ 2.0 ~ none ~ true
true
none
[1, 'a', 2.0, none, true, {'k': "it's"}]
('a', 1)
(1,)
{'a': 1, 'b': [1]}
'abcabc'.removeprefix('abc')
'abcabc'.removesuffix('abc')
'abc'.removeprefix('x')
'a.b.c'.rsplit('.', 1)
'a.b.c'.rsplit('.')
'a.b.c'.split('.', 1)
' a  b  c '.split()
' a  b  c '.split(none, 1)
' a  b  c '.rsplit(none, 1)
' a  b  c '.rsplit()
'a,b,,c'.split(',')
'abc'.split('b', maxsplit=1)
''.split()
''.split(',')
'a-b-c'.partition('-')
'a-b-c'.rpartition('-')
'abc'.partition('-')
'abc'.rpartition('-')
'42'.zfill(5)
'-42'.zfill(5)
'42'.zfill(1)
'ab'.center(7) ~ '|'
'ab'.center(7, '*')
'abc'.center(6, '*')
'a'.ljust(3, '.') ~ 'a'.rjust(3, '.')
'abcabc'.index('c')
'abcabc'.rindex('c')
'abcabc'.find('c', 3)
'abcabc'.find('x')
'abcabc'.rfind('b', 0, 3)
'é🐱x'.find('x')
'abcabc'.count('b')
'abc'.startswith('b', 1)
'abc'.startswith(('x', 'a'))
'abc'.endswith('c')
'a\nb\r\nc\n'.splitlines()
'a\nb\n'.splitlines(true)
'Hello World'.swapcase()
'hello world'.title()
'hELLO'.capitalize()
'Straße'.casefold()
'a\tb'.expandtabs(4)
'Hello World'.istitle()
'12'.isdigit() ~ 'a1'.isalnum() ~ 'ab'.isalpha() ~ ' '.isspace() ~ '12'.isdecimal()
'AB'.isupper() ~ 'ab'.islower()
' a '.strip() ~ '|' ~ ' a '.lstrip() ~ '|' ~ ' a '.rstrip() ~ '|'
'xxaxx'.strip('x') ~ 'xya'.lstrip('xy')
'a{}b{}'.format(1, 'c')
'{0}-{name}'.format('x', name='y')
'-'.join(['a', 'b'])
'abc'.replace('b', 'x')
'aaa'.replace('a', 'b', 2)
'abc'[1:]
'abc'[::-1]
'abc'[-1]
[1, 2, 3][:2]
[1, 2, 3].index(2)
[1, 2, 2].count(2)
{'a': 1}.items() | list
{'b': 1, 'a': 2}.keys() | list
{'b': 1, 'a': 2}.values() | list
{'a': 1}.get('b', 3)
{'a': 1}.get('b')
'a b  c' | wordcount
'abc' | center(9)
'abc' | length
'abc' | count
'abc' | upper
'a<b' | e
'hello' | truncate(4)
'hello big world out there' | truncate(12)
[1, 2, 3] | sum
[3, 1, 2] | sort
[3, 1, 2] | max
[1, 2, 3, 4, 5] | batch(2) | list
['a', 'b'] | join(', ')
[1.5, 'a', none] | join('-')
'abc' | first
[1, 2] | last
{'b': 1, 'a': 2} | dictsort
'a' | default('b')
x | default('b')
'' | default('b', true)
['a', 'B'] | map('upper') | list
[{'a': 1}, {'a': 2}] | map(attribute='a') | list
[{'a': 1}, {'a': 2}] | selectattr('a', 'equalto', 2) | list
[{'a': 1}, {'b': 2}] | selectattr('a', 'defined') | list
[{'a': 1}, {'a': 2}] | rejectattr('a', 'equalto', 2) | list
[1, 2, 3] | select('odd') | list
[1, 1, 2] | unique | list
[1, 2] | reverse | list
'3' | int + 1
'3.7' | float
'x' | int
3.7 | int
2.5 | round
3.14159 | round(2)
-3 | abs
'%s-%s' | format('a', 2)
'a\nb' | indent(2)
'a\nb' | indent(2, true)
'abc' | list
'abc' | replace('b', 'x')
' a ' | trim ~ '|'
'a' | string
1 is number
1.0 is float
true is boolean
'a' is string
[1] is iterable
{} is mapping
[1] is sequence
none is none
x is defined
x is undefined
3 is odd
4 is divisibleby 2
'a' in 'abc'
1 in [1]
'a' in {'a': 1}
1 not in [2]
1 == 1.0
1 < 2 < 3
'a' < 'b'
[1] + [2]
[1] * 2
'ab' * 2
true + 1
1 if false
1 if false else 2
not true
x
range(3) | list
range(1, 6, 2) | list
dict(a=1, b=2)
namespace(a=1).a
cycler('a', 'b').next()
joiner(', ')() ~ 'a'
strftime_now('%Y') | length
strftime_now('%%d') ~ strftime_now('%d %b %Y') | length
['b', 'a'] | sort | join
{'a': {'b': 1}}['a']['b']
{'a': {'b': 1}}.a.b
[[1, 2], [3]] | sum(start=[])
'abc' | slice(2) | list
loop is defined
[1, 2, 3] | min
'a' ~ ('b' if true)
"it's"
'a\\b\tc'
1_000
0x10
""".strip("\n").split("\n")
