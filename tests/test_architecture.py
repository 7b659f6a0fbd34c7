"""The floors of the house: imports go down only, and every module stands alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from strhub.models.zoo import create_model

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    path.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.').removesuffix('.__init__')
    for path in (ROOT / 'strhub').rglob('*.py')
)
DOORS = [path.name for path in sorted(ROOT.glob('*.py'))]

# Packages that come with an extra: each is imported only by the modules whose job needs it.
OPTIONAL = {'hydra', 'omegaconf', 'lmdb', 'cv2', 'rapidfuzz', 'rich', 'tensorboard', 'ray', 'onnx', 'gradio', 'fvcore'}
OPTIONAL |= {'pyarrow', 'scipy', 'matplotlib', 'fastapi', 'uvicorn'}
OF_LIGHTNING = {'rich', 'scipy', 'matplotlib'}  # which imports them where they are installed
# What takes longer to import than a picture takes to be read: for training, and what it imports in its turn.
OF_TRAINING = {
    'lightning',
    'pytorch_lightning',
    'torchmetrics',
    'timm',
    'torchvision',
    'matplotlib',
    'pandas',
    'sklearn',
}
OF_TRAINING |= {'sympy', 'torch._dynamo', 'torch._inductor'}


def floor(module: str) -> float:
    """Where a module lives; data and models are two rooms of the first floor."""
    if module in ('strhub.__main__', 'strhub.quickstart', 'strhub.demo'):
        return 4
    if module.startswith('strhub.engine') or module in ('strhub.runtime.reader', 'strhub.runtime.trained'):
        return 3
    parts = module.split('.')
    if parts[1:2] == ['models']:
        is_upper = parts[-1] == 'system' or (len(parts) == 3 and parts[2] not in ('modules', 'vit', *model_packages()))
        return 2 if is_upper else 1
    return {'data': 1, 'runtime': 2}.get(''.join(parts[1:2]), 0)


def model_packages() -> list[str]:
    return [path.parent.name for path in (ROOT / 'strhub/models').glob('*/__init__.py')]


def room(module: str) -> str:
    parts = module.split('.')
    return parts[1] if len(parts) > 1 and parts[1] in ('data', 'models') else ''


def source(module: str) -> Path:
    path = ROOT / module.replace('.', '/')
    package = path / '__init__.py'
    return package if package.is_file() else path.with_suffix('.py')


def imports(tree: ast.AST) -> set[str]:
    """Every strhub module that `tree` imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'line {node.lineno}: imports are absolute here'
            found |= {f'{node.module}.{alias.name}' for alias in node.names}
            found.add(str(node.module))
    return {name for name in found if name in MODULES and name != 'strhub'}


@pytest.mark.parametrize('module', [m for m in MODULES if m != 'strhub'])
def test_imports_go_down_only(module: str) -> None:
    for imported in imports(ast.parse(source(module).read_text(encoding='utf-8'))):
        assert floor(imported) <= floor(module), f'{module} (floor {floor(module)}) imports {imported} from above'
        if room(module) and room(imported):
            assert room(module) == room(imported), f'{module} looks into the other room: {imported}'


@pytest.mark.parametrize('door', DOORS)
def test_doors_hold_no_logic(door: str) -> None:
    tree = ast.parse((ROOT / door).read_text(encoding='utf-8'))
    branches = [n for n in ast.walk(tree) if isinstance(n, ast.While | ast.ClassDef | ast.Try)]
    assert not branches
    assert len((ROOT / door).read_text(encoding='utf-8').splitlines()) < 80


@pytest.mark.parametrize('module', MODULES)
def test_modules_open_with_a_docstring(module: str) -> None:
    assert ast.get_docstring(ast.parse(source(module).read_text(encoding='utf-8')))


def test_every_module_imports_alone() -> None:
    """No module relies on another having been imported before it: each gets a fork that has only seen torch & co."""
    code = """
import importlib, os, sys, traceback
import lightning.pytorch, timm
for module in sys.argv[1:]:
    if (child := os.fork()) == 0:
        try:
            importlib.import_module(module)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print('FAILED', module)
"""
    done = subprocess.run([sys.executable, '-c', code, *MODULES], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 'FAILED' not in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ('statement', 'unwanted'),
    [
        ('import strhub', {'torch', 'numpy', 'PIL', 'yaml'} | OF_TRAINING | OPTIONAL),
        ('import strhub.__main__', {'torch', 'numpy', 'PIL', 'yaml'} | OF_TRAINING | OPTIONAL),
        ('import strhub.runtime.reader', {'torch', 'yaml', 'onnxruntime'} | OF_TRAINING | OPTIONAL),
        ('import strhub.models.zoo', OF_TRAINING | OPTIONAL),
        ('import strhub.models.base', OPTIONAL - OF_LIGHTNING),
        ('import strhub.data.module', {'timm'} | OPTIONAL - OF_LIGHTNING),
    ],
)
def test_optional_packages_stay_out(statement: str, unwanted: set[str]) -> None:
    code = f'{statement}\nimport sys\nprint(*sys.modules)'
    loaded = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not unwanted & set(loaded.split())


def test_reading_a_picture_imports_nothing_of_training(tmp_path: Path) -> None:
    """Each model is read with from a checkpoint of its own, all in one process."""
    picture = ROOT / 'demo_images/01.jpg'
    checkpoints = []
    for name in ('parseq-tiny', 'vitstr', 'crnn-tiny'):
        system = create_model(name, **({'embed_dim': 48} if name == 'vitstr' else {}))
        checkpoints.append(tmp_path / f'{name}.ckpt')
        torch.save({'state_dict': system.state_dict(), 'hyper_parameters': dict(system.hparams)}, checkpoints[-1])
    code = (
        'import sys\nfrom strhub.engine.read import main\n'
        'for checkpoint in sys.argv[2:]:\n    main([checkpoint, "--images", sys.argv[1], "--device", "cpu"])\n'
        'print(*sys.modules)'
    )
    command = [sys.executable, '-c', code, str(picture), *map(str, checkpoints)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    *readings, modules = done.stdout.splitlines()
    assert [reading.startswith(f'{picture}: ') for reading in readings] == [True] * len(checkpoints)
    assert not (OF_TRAINING | OPTIONAL) & set(modules.split())
