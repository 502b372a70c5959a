import pytest

from cvm_monai.annotations import Annotations, Point, read_annotations, read_points_csv


def save(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_points_are_grouped_by_case_in_the_order_of_the_table(tmp_path):
    path = save(tmp_path / "p.csv", "label, x,y ,case_id,who\nTarget,1.5,2,a,me\n0,3,4,b,\n\nbackground,5,6,a,\n")
    assert read_points_csv(path) == {
        "a": Annotations((Point(1.5, 2, 1), Point(5, 6, 0))),
        "b": Annotations((Point(3, 4, 0),)),
    }


def test_semicolons_and_decimal_commas_are_understood(tmp_path):
    path = save(tmp_path / "p.csv", "\ufeffcase_id;x;y;label;\na;1,5;2;1;\n")
    assert read_points_csv(path) == {"a": Annotations((Point(1.5, 2, 1),))}


def test_quoted_newlines_do_not_shift_line_numbers(tmp_path):
    path = save(tmp_path / "p.csv", 'case_id,x,y,label,note\na,1,2,1,"two\nlines"\na,1,2,tumour,\n')
    with pytest.raises(ValueError, match=r"p.csv, line 4: unknown label 'tumour'"):
        read_points_csv(path)


def test_class_map_and_left_out_points(tmp_path):
    path = save(tmp_path / "p.csv", "case_id,x,y,label\na,1,2,Tumor\na,1,2,ROI\na,1,2,255\nb,1,2,roi\n")
    assert read_points_csv(path, classes={"tumor": "target", "roi": "skip"}) == {
        "a": Annotations((Point(1, 2, 1),), (), {"skip": 1, "exclusion point": 1}),
        "b": Annotations((), (), {"skip": 1}),
    }


HEADER = "case_id,x,y,label\n"


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("", "p.csv, line 1: the column 'case_id' is missing; found nothing"),
        ("case,x,y,label\n", "line 1: the column 'case_id' is missing; found case, x, y, label"),
        ("case_id,x,x,y,label\n", "line 1: the column 'x' appears twice"),
        (HEADER + "a,1,2,1\na,1,2\n", "p.csv, line 3: 3 values for 4 columns"),
        (HEADER + "a,one,2,1\n", "line 2: x must be a number, got 'one'"),
        (HEADER + "a,1,inf,1\n", "line 2: y must be a number, got 'inf'"),
        (HEADER + ",1,2,1\n", "line 2: the case_id is empty"),
        (HEADER + "a,1,2,\n", "line 2: an annotation without a label"),
        (HEADER + 'a,1,2,"1\n', r"line \d: not valid CSV"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, text, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_points_csv(save(tmp_path / "p.csv", text))


def test_table_of_one_case_is_an_annotation_file(tmp_path):
    assert read_annotations(save(tmp_path / "a.csv", HEADER + "a,1,2,1\n")).points == (Point(1, 2, 1),)
    assert read_annotations(save(tmp_path / "b.csv", HEADER)) == Annotations()
    with pytest.raises(ValueError, match=r"c.csv holds the points of 2 cases"):
        read_annotations(save(tmp_path / "c.csv", HEADER + "a,1,2,1\nb,1,2,1\n"))


def test_tabs_separate_too(tmp_path):
    path = save(tmp_path / "p.csv", "case_id\tx\ty\tlabel\tnote, or none\na\t1,5\t2\t1\t\n")
    assert read_points_csv(path) == {"a": Annotations((Point(1.5, 2, 1),))}


def test_a_header_that_lacks_a_column_is_shown_with_its_tabs(tmp_path):
    path = save(tmp_path / "p.csv", "case id\tx,y,label\na\t1,2,1\n")
    with pytest.raises(ValueError, match=r"the column 'case_id' is missing; found case id\\tx, y, label"):
        read_points_csv(path)
